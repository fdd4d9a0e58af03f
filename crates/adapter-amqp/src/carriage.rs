//! What AMQP carries; see [`mapping`](crate::mapping).

use transload_adapter::{Carriage, Part};

/// AMQP 0-9-1.
pub static CARRIAGE: Carriage = Carriage {
    protocol: "AMQP 0-9-1",
    forms: &[
        (Part::Id, "`message_id`"),
        (Part::ContentType, "`content_type`"),
        (Part::ContentEncoding, "`content_encoding`"),
        (Part::Correlation, "`correlation_id` if it fits, else header `x-correlation-id`"),
        (Part::ReplyTo, "`reply_to`; a topic as header `x-reply-to-topic`"),
        (Part::Expiry, "`expiration` (ms); over ten years also header `transload-expires-ms`"),
        (Part::Durable, "`delivery_mode`"),
        (Part::Retain, "header `transload-retain`"),
        (Part::Priority, "`priority`"),
        (Part::Type, "`type`"),
        (Part::Application, "`app_id`"),
        (
            Part::User,
            "read from `user_id`, written as header `transload-user-id` (the broker insists that \
             `user_id` is the login)",
        ),
        (Part::Timestamp, "`timestamp` (s), with milliseconds also header `timestamp_in_ms`"),
        (Part::Hops, "header `transload-hops`"),
        (
            Part::Headers,
            "header table, typed; repeats become an array, which header `transload-repeats` names",
        ),
    ],
    without: &[],
    altered: &[(Part::Retain, "a header only"), (Part::User, "the header `transload-user-id`")],
    remark: "",
};
