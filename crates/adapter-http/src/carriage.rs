//! What HTTP carries; see [`mapping`](crate::mapping).

use transload_adapter::{Carriage, Part};

/// Requests, both ways.
pub static REQUESTS: Carriage = Carriage {
    protocol: "HTTP",
    forms: &[
        (
            Part::Id,
            "out: `webhook-id`, `Idempotency-Key`; in: these, `X-GitHub-Delivery`, \
             `X-Shopify-Webhook-Id`, `Message-Id`; with `verify`, what the scheme says",
        ),
        (Part::ContentType, "`Content-Type`"),
        (Part::ContentEncoding, "`Content-Encoding`"),
        (Part::Correlation, "`X-Correlation-Id`, or `Transload-Correlation` in base64"),
        (Part::Priority, "`Transload-Priority`"),
        (Part::Type, "`Transload-Type`"),
        (Part::Application, "`Transload-App-Id`"),
        (Part::User, "`Transload-User-Id`"),
        (Part::Timestamp, "`Transload-Timestamp` (ms)"),
        (Part::Hops, "`Transload-Hops`"),
        (Part::Headers, "header fields, names in lower case, repeats in order"),
    ],
    without: &[],
    altered: &[],
    remark: "",
};

/// Event streams, out only.
pub static EVENT_STREAM: Carriage = Carriage {
    protocol: "HTTP event stream",
    forms: &[(Part::Id, "`id`")],
    without: &[],
    altered: &[],
    remark: "",
};
