//! Every protocol to every protocol, in all their variants: what arrives is what was sent.

use crate::peers::{Protocol, Sample, Source, Target, expected_properties, join, properties};

const MIB: usize = 1 << 20;

/// Bytes without a pattern that a protocol could like or dislike.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    std::iter::repeat_with(next).take(length).collect()
}

fn samples(case: &str) -> Vec<Sample> {
    let every_byte: Vec<u8> = (0..=255).collect();
    vec![
        Sample::new(format!("m/{case}/text"), "{\"n\": 1, \"s\": \"ü €\"}"),
        Sample::new(format!("m/{case}/lines"), "a\nb\n\nc"),
        Sample::new(format!("m/{case}/binary"), every_byte),
        Sample::new(format!("m/{case}/empty"), ""),
        Sample::new(format!("m/{case}/large"), noise(MIB)),
        Sample::new(format!("m/{case}/Grüße/ünïcode/日本"), "1"),
        Sample::new(format!("m/{case}/v1.0/a.b"), "2"),
        Sample::new(format!("m/{case}//gap"), "3"),
        Sample::new(format!("m/{case}/{{curly}}/~!$&'()=;,@-_%2F"), "4"),
        Sample::new(format!("m/{case}/{}", "deep/".repeat(20) + "end"), "5"),
    ]
}

async fn pair(case: &str, from: Protocol, to: Protocol) {
    let source = Source::start(from, case).await;
    let mut target = Target::start(to, case).await;
    let _gateway = join(&source, &mut target).await;
    let sent = samples(case);
    source.publish(&sent).await;
    let received = target.take(sent.len()).await;
    for (sent, (received, message)) in sent.iter().zip(&received) {
        assert_eq!(sent.address, received.address, "in order, under its address");
        assert!(sent.payload == received.payload, "the payload of {}", sent.address);
        if from.carries_properties() && to.carries_properties() {
            assert_eq!(properties(to, message), expected_properties(to), "{message:?}");
        }
    }
    target.consumer().stays_at(sent.len()).await;
}

macro_rules! matrix {
    ($($source:ident as $from:ident),* => $targets:tt) => {
        $(mod $source {
            use super::{Protocol, pair};
            matrix!(@targets $source $from $targets);
        })*
    };
    (@targets $source:ident $from:ident [$($target:ident as $to:ident),*]) => {
        $(#[tokio::test]
        async fn $target() {
            let case = concat!(stringify!($source), "-", stringify!($target));
            pair(case, Protocol::$from, Protocol::$to).await;
        })*
    };
}

matrix! {
    from_devices_v3 as DevicesV3,
    from_devices_v5 as DevicesV5,
    from_broker_v3 as BrokerV3,
    from_broker_v5 as BrokerV5,
    from_amqp as Amqp,
    from_nats as NatsCore,
    from_jetstream as JetStream,
    from_http as Http
    => [
        to_devices_v3 as DevicesV3,
        to_devices_v5 as DevicesV5,
        to_broker_v3 as BrokerV3,
        to_broker_v5 as BrokerV5,
        to_amqp as Amqp,
        to_nats as NatsCore,
        to_jetstream as JetStream,
        to_http as Http,
        to_events as Events
    ]
}
