use serde::{Serialize, Serializer, ser::SerializeMap as _};
use serde_json::{Value, json, value::RawValue};
use transload_adapter::{
    store::Storage,
    units::{ByteSize, HumanDuration},
};

use transload_routing::Pattern;

use super::{
    json::JsonTable,
    model::{Configuration, GatewaySettings, Route},
};

/// A configuration as it is in force, defaults of the gateway included and without secrets. It is
/// written at once, since a running gateway keeps it, and as a tree it takes several times as much.
pub(crate) fn shown(configuration: &Configuration) -> JsonTable {
    JsonTable::of(&Shown(configuration))
}

struct Shown<'a>(&'a Configuration);

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry("gateway", &gateway(&self.0.gateway))?;
        map.serialize_entry("adapters", &adapters(self.0))?;
        map.serialize_entry("routes", &Routes(self.0))?;
        map.end()
    }
}

struct Routes<'a>(&'a Configuration);

impl Serialize for Routes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.routes.iter().map(|route| self::route(self.0, route)))
    }
}

fn adapters(configuration: &Configuration) -> Value {
    let adapters = configuration.adapters.iter().map(|adapter| {
        json!({
            "name": &*adapter.name,
            "kind": adapter.kind,
            "at": adapter.prepared.describe(),
            "max_unsettled": adapter.credits,
            "max_unsettled_bytes": adapter.unsettled_bytes.to_string(),
            "settings": adapter.shown,
        })
    });
    adapters.collect()
}

fn gateway(settings: &GatewaySettings) -> Value {
    json!({
        "data_dir": settings.data_dir.display().to_string(),
        "admin": settings.admin.map(|address| address.to_string()),
        "admin_token": settings.admin_token.as_ref().map(|_| "***"),
        "drain_timeout": HumanDuration::from(settings.drain_timeout).to_string(),
        "max_disk_bytes": ByteSize::from_bytes(settings.disk_bytes_max).to_string(),
        "reload_on_change": settings.reload_on_change,
        "telemetry": settings.telemetry.as_ref().map(|telemetry| json!({
            "endpoint": telemetry.endpoint,
            "service_name": telemetry.service_name,
            "sample_ratio": telemetry.sample_ratio,
        })),
    })
}

/// A route as it is shown. There may be very many, which as trees would take long to make.
#[derive(Serialize)]
struct ShownRoute<'a> {
    name: &'a str,
    from: Vec<&'a str>,
    #[serde(rename = "match")]
    patterns: Vec<&'a str>,
    fallback: bool,
    stop: bool,
    shape: &'a Option<Value>,
    to: Vec<Option<Box<RawValue>>>,
    guarantee: &'static str,
    when_full: &'static str,
    queue: ShownQueue,
    attempts: u32,
    expires: Option<String>,
}

#[derive(Serialize)]
struct ShownQueue {
    storage: &'static str,
    max_messages: u64,
    max_bytes: String,
}

fn route<'a>(configuration: &'a Configuration, route: &'a Route) -> ShownRoute<'a> {
    let name = |adapter: &usize| {
        configuration.adapters.get(*adapter).map_or("?", |adapter| &*adapter.name)
    };
    ShownRoute {
        name: &route.name,
        from: route.from.iter().map(name).collect(),
        patterns: route.patterns.iter().map(Pattern::as_str).collect(),
        fallback: route.fallback,
        stop: route.stop,
        shape: &route.shape_shown,
        to: route.to.iter().map(|to| to.shown.with_first("adapter", name(&to.adapter))).collect(),
        guarantee: route.guarantee.as_str(),
        when_full: route.when_full.as_str(),
        queue: ShownQueue {
            storage: match route.queue.storage {
                Storage::Disk => "disk",
                Storage::Memory => "memory",
            },
            max_messages: route.queue.messages_max,
            max_bytes: ByteSize::from_bytes(route.queue.bytes_max).to_string(),
        },
        attempts: route.attempts_max,
        expires: route.expires.map(|time| HumanDuration::from(time).to_string()),
    }
}
