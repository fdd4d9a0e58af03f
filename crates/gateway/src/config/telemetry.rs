//! The table `[telemetry]`.

use std::time::Duration;

use hyper::{
    Uri,
    header::{HeaderName, HeaderValue},
};
use serde::Deserialize;
use serde_spanned::Spanned;
use toml::de::Deserializer;
use transload_adapter::{Secret, units::HumanDuration};

use super::{
    check::Check,
    document,
    finding::Finding,
    model::TelemetrySettings,
    recover,
    settings::TelemetryKeys,
    source::{FileId, Place},
    tree::{self, Value},
};

/// What OTLP adds to the endpoint for spans.
const TRACES_PATH: &str = "/v1/traces";
/// Memory for this many spans is in the order of 64 MiB.
const QUEUE_SPANS_MAX: u32 = 100_000;

impl<'a> Check<'a> {
    /// Reads where spans go.
    pub(super) fn telemetry(
        &mut self,
        file: FileId,
        value: Value<'a>,
    ) -> Option<TelemetrySettings> {
        let place = Place { file, span: value.span() };
        let mut table = match tree::into_table(value) {
            Ok(table) => table,
            Err(value) => {
                let message = format!("expected a table, found {}", value.get_ref().type_str());
                self.report(Finding::error(place, message));
                return None;
            }
        };
        if cfg!(not(feature = "otlp")) {
            let message = "this program was built without the feature `otlp`";
            let help = "build it with `--features otlp`, or leave `[telemetry]` out".to_owned();
            self.report(Finding::error(place, message).with_help(help));
        }
        let recovered = recover::read(&mut table, &[], |table| {
            TelemetryKeys::deserialize(Deserializer::from(table.clone()))
        });
        self.report_faults(file, recovered.faults, "`[telemetry]`");
        let keys = recovered.value?;
        let default = TelemetrySettings::default();
        let settings = TelemetrySettings {
            endpoint: self.endpoint(file, keys.endpoint),
            headers: self.telemetry_headers(file, keys.headers, keys.header_files),
            service_name: keys.service_name.unwrap_or(default.service_name),
            sample_ratio: self.sample_ratio(file, keys.sample_ratio).unwrap_or(1.0),
            timeout: self.request_timeout(file, keys.timeout).unwrap_or(default.timeout),
            interval: keys.interval.map_or(default.interval, HumanDuration::get),
            queue_spans_max: match keys.max_queue_spans {
                None => default.queue_spans_max,
                Some(max) => {
                    if max.get_ref().get() > QUEUE_SPANS_MAX {
                        let place = Place { file, span: max.span() };
                        let message = format!("expected at most {QUEUE_SPANS_MAX}");
                        self.report(Finding::error(place, message));
                    }
                    max.into_inner().get() as usize
                }
            },
        };
        Some(settings)
    }

    /// The endpoint without a slash at its end.
    fn endpoint(&mut self, file: FileId, written: Spanned<String>) -> String {
        let place = Place { file, span: written.span() };
        let text = written.into_inner();
        let text = text.trim_end_matches('/');
        if let Err((message, help)) = endpoint_fault(text) {
            self.report(Finding::error(place, message).with_help(help.to_owned()));
        }
        text.to_owned()
    }

    fn telemetry_headers(
        &mut self,
        file: FileId,
        written: impl IntoIterator<Item = (Spanned<String>, Spanned<Secret>)>,
        files: impl IntoIterator<Item = (Spanned<String>, Spanned<String>)>,
    ) -> Vec<(String, Secret)> {
        let mut headers: Vec<(Spanned<String>, Secret)> = Vec::new();
        for (name, value) in written {
            self.hidden_spans.push((file, document::inner(&value.span())));
            self.hide_text(value.get_ref().expose(), "***");
            headers.push((name, value.into_inner()));
        }
        for (name, path) in files {
            match self.read_secret(file, path.get_ref()) {
                Ok(text) => headers.push((name, Secret::new(text))),
                Err(message) => {
                    self.report(Finding::error(Place { file, span: path.span() }, message));
                }
            }
        }
        let mut checked: Vec<(String, Secret)> = Vec::new();
        for (name, value) in headers {
            let place = Place { file, span: name.span() };
            let name = name.into_inner().to_ascii_lowercase();
            let fault = if HeaderName::from_bytes(name.as_bytes()).is_err() {
                Some("this is no name of a header field")
            } else if HeaderValue::from_str(value.expose()).is_err() {
                Some("the value cannot stand in a header field")
            } else if checked.iter().any(|(known, _)| *known == name) {
                Some("this header field is given twice")
            } else {
                None
            };
            if let Some(fault) = fault {
                self.report(Finding::error(place, fault));
            }
            checked.push((name, value));
        }
        checked
    }

    fn sample_ratio(&mut self, file: FileId, written: Option<Spanned<f64>>) -> Option<f64> {
        let written = written?;
        let place = Place { file, span: written.span() };
        let ratio = written.into_inner();
        if !(0.0..=1.0).contains(&ratio) {
            let help = "0.1 samples one trace in ten".to_owned();
            let message = "expected a number from 0.0 to 1.0";
            self.report(Finding::error(place, message).with_help(help));
        }
        Some(ratio)
    }

    fn request_timeout(
        &mut self,
        file: FileId,
        written: Option<Spanned<HumanDuration>>,
    ) -> Option<Duration> {
        let written = written?;
        let place = Place { file, span: written.span() };
        let timeout = written.into_inner().get();
        if timeout.is_zero() {
            self.report(Finding::error(place, "no request can be done in no time"));
        }
        Some(timeout)
    }
}

/// What is wrong with an endpoint, and the cure.
fn endpoint_fault(text: &str) -> Result<(), (&'static str, &'static str)> {
    let cure = "write it as `http://HOST:4318`";
    let uri: Uri = text.parse().map_err(|_| ("this is not a URL", cure))?;
    let Some(authority) = uri.authority().filter(|authority| !authority.host().is_empty()) else {
        return Err(("this is not a URL with a host", cure));
    };
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(("the URL must begin with `http://` or `https://`", cure));
    }
    if authority.as_str().contains('@') {
        let cure = "put them into `headers` as `authorization`";
        return Err(("the URL holds credentials, which would be shown", cure));
    }
    if uri.query().is_some() || text.contains('#') {
        return Err(("the URL holds more than a path", cure));
    }
    if uri.path().ends_with(TRACES_PATH) {
        return Err(("`/v1/traces` is added to the URL", "leave it out"));
    }
    Ok(())
}
