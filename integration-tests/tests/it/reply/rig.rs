//! One gateway between all callers and all responders.

use serde_json::{Value, json};
use transload_integration_tests::{
    Consumer, Mosquitto, Nats, Python, RabbitMq, Transload, free_port,
};

use crate::support::{client, devices, route, web};

/// Who calls: our listeners, and what is joined by a URL.
pub(super) const CALLERS: [&str; 6] = ["web", "nats", "amqp", "amqp-direct", "devices", "broker"];
/// Who answers; the last two are MQTT 3.1.1 clients that find the correlation in the topic.
pub(super) const RESPONDERS: [&str; 7] =
    ["http", "nats", "amqp", "devices", "broker", "devices-3", "broker-3"];

/// Brokers, gateway, and a program that answers.
pub(super) struct Rig {
    pub(super) gateway: Transload,
    pub(super) web: u16,
    pub(super) clients: Python,
    pub(super) nats: Nats,
    _broker: Mosquitto,
    _responders: Consumer,
}

/// An answer as the foreign client saw it.
#[derive(Debug)]
pub(super) struct Answer(pub(super) Value);

impl Answer {
    pub(super) fn text(&self) -> &str {
        self.0["text"].as_str().unwrap_or_default()
    }

    pub(super) fn status(&self) -> Option<u64> {
        self.0["status"].as_u64()
    }

    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.0[name].as_str()
    }
}

impl Rig {
    pub(super) async fn start(case: &str) -> Self {
        let (nats, broker) = (Nats::start().await, Mosquitto::start().await);
        let rabbitmq = RabbitMq::shared().await;
        let (web_port, mqtt, http) = (free_port(), free_port(), free_port());
        let queue = format!("rpc-{case}");
        let settings = [
            web(web_port),
            devices(mqtt, ""),
            client("http", "http", &format!("http://127.0.0.1:{http}"), "max_in_flight = 1000"),
            client("nats", "nats", &nats.url(), "subscribe = [\"ask.>\"]"),
            client("broker", "mqtt", &broker.url(), "subscribe = [\"ask/#\"]"),
            client(
                "amqp",
                "amqp",
                &rabbitmq.url(),
                &format!(
                    "[[adapters.amqp.consume]]\nqueue = \"asked-{case}\"\nprefetch = 500\n\
                     declare = {{ exclusive = true, durable = false }}\n\
                     bind = [{{ exchange = \"amq.topic\", key = \"ask.{case}.#\" }}]\n"
                ),
            ),
            routes(case, &queue),
        ];
        let gateway = Transload::start(&settings.concat()).await;
        gateway.until_ready().await;
        let addresses = json!({
            "http": http, "web": web_port, "nats": nats.url(), "amqp": rabbitmq.url(),
            "devices": format!("127.0.0.1:{mqtt}"), "broker": broker.address(), "queue": queue,
        });
        let clients = Python::rpc(&addresses.to_string());
        let responders = clients.consume(&["respond"]).await;
        Self { gateway, web: web_port, clients, nats, _broker: broker, _responders: responders }
    }

    /// Makes calls at once; the answers are in their order.
    pub(super) async fn call(&self, calls: &[Value]) -> Vec<Answer> {
        let answered = self.clients.ask(&["call", &Value::from(calls).to_string()]).await;
        let Value::Array(answers) = &answered["answers"] else { panic!("{answered}") };
        answers.iter().cloned().map(Answer).collect()
    }
}

pub(super) fn call(case: &str, by: &str, to: &str, text: &str) -> Value {
    json!({ "by": by, "address": format!("ask/{case}/{to}"), "text": text })
}

fn routes(case: &str, queue: &str) -> String {
    let from = "web\", \"nats\", \"amqp\", \"devices\", \"broker";
    let ask = |name: &str, to: &str, reply: &str| {
        route(name, "FROM", &format!("ask/{case}/{name}"), to, &format!("reply = {reply}"))
            .replace("from = \"FROM\"", &format!("from = [\"{from}\"]"))
    };
    let within = "{ timeout = \"15s\" }";
    let short = "{ timeout = \"300ms\" }";
    let device = |adapter: &str| {
        format!(
            "{{ adapter = \"{adapter}\", topic = \"do/{adapter}-3/{{correlation}}\", \
             reply_topic = \"done/{adapter}-3/{{correlation}}\" }}"
        )
    };
    let plain = |adapter: &str, key: &str, value: &str| {
        format!("{{ adapter = \"{adapter}\", {key} = \"{value}\" }}")
    };
    let mut text = String::new();
    for (suffix, reply) in [("", within), ("-short", short)] {
        let mut add = |name: &str, to: String| text += &ask(&format!("{name}{suffix}"), &to, reply);
        add("http", plain("http", "path", "service"));
        add("nats", plain("nats", "subject", "service"));
        add("amqp", plain("amqp", "queue", queue));
        add("devices", plain("devices", "topic", "do/devices"));
        add("broker", plain("broker", "topic", "do/broker"));
        add("devices-3", device("devices"));
        add("broker-3", device("broker"));
    }
    let nobody = [
        ("nats", plain("nats", "subject", "nobody")),
        ("amqp", plain("amqp", "queue", "nobody-at-all")),
        ("devices", plain("devices", "topic", "nobody")),
        ("broker", plain("broker", "topic", "nobody")),
        ("http", plain("nowhere", "path", "x")),
    ];
    for (name, to) in nobody {
        text += &ask(&format!("{name}-nobody"), &to, within);
    }
    let nowhere = free_port();
    text + &client("nowhere", "http", &format!("http://127.0.0.1:{nowhere}"), "")
}
