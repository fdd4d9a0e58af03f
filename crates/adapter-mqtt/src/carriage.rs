//! What the versions of MQTT carry; see [`mapping`](crate::mapping).

use transload_adapter::{Carriage, Part};

const FORMS_5: &[(Part, &str)] = &[
    (Part::Id, "user property `message-id`"),
    (Part::ContentType, "Content Type"),
    (Part::ContentEncoding, "user property `content-encoding`"),
    (Part::Correlation, "Correlation Data"),
    (Part::ReplyTo, "Response Topic"),
    (Part::Expiry, "Message Expiry Interval (s)"),
    (Part::Durable, "QoS 1, 2"),
    (Part::Retain, "Retain"),
    (Part::Priority, "user property `priority`"),
    (Part::Type, "user property `message-type`"),
    (Part::Application, "user property `app-id`"),
    (Part::User, "user property `user-id`"),
    (Part::Timestamp, "user property `timestamp-ms`"),
    (Part::Hops, "user property `transload-hops`"),
    (Part::Headers, "user properties, in order, with repeats"),
];

/// MQTT 5.
pub static MQTT_5: Carriage =
    Carriage { protocol: "MQTT 5", forms: FORMS_5, without: &[], altered: &[], remark: "" };

/// MQTT 3.1.1.
pub static MQTT_3_1_1: Carriage = Carriage {
    protocol: "MQTT 3.1.1",
    forms: &[(Part::Durable, "QoS 1, 2"), (Part::Retain, "Retain")],
    without: &[],
    altered: &[],
    remark: "",
};

/// Our own listener, where devices of both versions connect.
pub(crate) static LISTENER: Carriage = Carriage {
    protocol: "MQTT 5",
    forms: FORMS_5,
    without: &[],
    altered: &[],
    remark: "devices that connect with MQTT 3.1.1 get the payload, QoS and Retain only",
};
