use serde::{Serialize, Serializer, ser::SerializeMap as _};
use serde_json::{Map, Value, json};
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

fn route(configuration: &Configuration, route: &Route) -> Value {
    let name = |adapter: &usize| {
        configuration.adapters.get(*adapter).map_or("?", |adapter| &adapter.name).to_owned()
    };
    let to = route.to.iter().map(|to| {
        let mut keys = Map::new();
        keys.insert("adapter".to_owned(), json!(name(&to.adapter)));
        keys.extend(to.shown.to_map());
        Value::Object(keys)
    });
    json!({
        "name": &*route.name,
        "from": route.from.iter().map(name).collect::<Vec<_>>(),
        "match": route.patterns.iter().map(Pattern::as_str).collect::<Vec<_>>(),
        "fallback": route.fallback,
        "stop": route.stop,
        "shape": route.shape_shown,
        "to": to.collect::<Vec<_>>(),
        "guarantee": route.guarantee.as_str(),
        "when_full": route.when_full.as_str(),
        "queue": {
            "storage": match route.queue.storage {
                Storage::Disk => "disk",
                Storage::Memory => "memory",
            },
            "max_messages": route.queue.messages_max,
            "max_bytes": ByteSize::from_bytes(route.queue.bytes_max).to_string(),
        },
        "attempts": route.attempts_max,
        "expires": route.expires.map(|time| HumanDuration::from(time).to_string()),
    })
}
