//! What NATS carries; see [`mapping`](crate::mapping).

use transload_adapter::{Carriage, Part};

const FORMS: &[(Part, &str)] = &[
    (Part::Id, "`Nats-Msg-Id`"),
    (Part::ContentType, "`Content-Type`"),
    (Part::ContentEncoding, "`Content-Encoding`"),
    (Part::Correlation, "`Correlation-Id`"),
    (Part::ReplyTo, "reply subject; `Reply-To` with JetStream"),
    (Part::Expiry, "`Transload-Expires-Ms`; `Nats-TTL` where the target says `ttl = true`"),
    (Part::Durable, "JetStream"),
    (Part::Retain, "`Transload-Retain`"),
    (Part::Priority, "`Transload-Priority`"),
    (Part::Type, "`Transload-Type`"),
    (Part::Application, "`Transload-App-Id`"),
    (Part::User, "`Transload-User-Id`"),
    (Part::Timestamp, "`Transload-Timestamp-Ms`"),
    (Part::Hops, "`Transload-Hops`"),
    (Part::Headers, "headers, in order"),
];

/// Core NATS.
pub static CORE: Carriage = Carriage {
    protocol: "NATS",
    forms: FORMS,
    without: &[Part::Durable],
    altered: &[(Part::Expiry, "a header only"), (Part::Retain, "a header only")],
    remark: "",
};

/// A stream whose server does not delete what has expired.
pub static STREAM: Carriage = Carriage {
    protocol: "JetStream",
    forms: FORMS,
    without: &[],
    altered: &[
        (Part::Expiry, "a header only, where the target does not say `ttl = true`"),
        (Part::Retain, "a header only"),
    ],
    remark: "",
};

/// A stream whose server deletes what has expired.
pub(crate) static STREAM_TTL: Carriage = Carriage {
    protocol: "JetStream",
    forms: FORMS,
    without: &[],
    altered: &[(Part::Retain, "a header only")],
    remark: "",
};
