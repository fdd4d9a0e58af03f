//! What the targets of the routes cannot carry of what their sources bring.

use serde_json::{Map, Value as Json, json};
use transload_adapter::{Carriage, Part};
use transload_envelope::Text;

use super::model::{AdapterInstance, Configuration, Route};

/// Parts that no notice tells of: of the first the route's guarantee tells, and the second is the
/// gateway's own.
const UNMENTIONED: [Part; 2] = [Part::Durable, Part::Hops];

/// From how many lost parts on it is shorter to say what is not lost.
const LISTED_MAX: usize = 6;

/// How many routes are named in a sentence.
const NAMED_MAX: usize = 3;

/// What happens to messages on all routes from one protocol to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The protocol that messages come from; empty where it does not matter.
    pub from: &'static str,
    /// The protocol that they go to.
    pub to: &'static str,
    /// What messages can bring and the target cannot carry.
    pub lost: Vec<Part>,
    /// What of it comes through, where that is shorter to say.
    kept: Vec<Part>,
    /// What comes through as something else, and as what.
    pub altered: Vec<(Part, &'static str)>,
    /// What else there is to know of the target.
    pub remark: &'static str,
    /// The routes, in the order of the file.
    pub routes: Vec<Text>,
}

/// What is lost or altered on the way, once for each pair of protocols.
pub fn notices(configuration: &Configuration) -> Vec<Notice> {
    let brings = |adapter: &AdapterInstance| adapter.prepared.source().brings;
    let brought: Vec<_> = configuration.adapters.iter().map(brings).collect();
    let mut told = Told::default();
    for route in &configuration.routes {
        for target in &route.to {
            let to = target.target.capabilities.carries;
            for from in route.from.iter().filter_map(|number| brought.get(*number)) {
                told.way(from, to, route);
            }
            if !to.remark.is_empty() {
                let notice = Notice { to: to.protocol, remark: to.remark, ..Notice::nothing() };
                let number = told.number(notice);
                told.add(number, &route.name);
            }
        }
    }
    told.notices
}

/// The notices so far.
#[derive(Default)]
struct Told {
    notices: Vec<Notice>,
    /// The numbers of the notices of ways that were looked at. There are few ways, and very many
    /// routes take them.
    ways: Vec<(Way, Option<usize>)>,
}

/// What a notice depends on.
#[derive(Clone, Copy)]
struct Way {
    from: &'static Carriage,
    to: &'static Carriage,
    replies: bool,
}

impl Way {
    fn is(self, other: Self) -> bool {
        std::ptr::eq(self.from, other.from)
            && std::ptr::eq(self.to, other.to)
            && self.replies == other.replies
    }
}

impl Told {
    fn way(&mut self, from: &'static Carriage, to: &'static Carriage, route: &Route) {
        let way = Way { from, to, replies: route.reply.is_some() };
        let known = self.ways.iter().find(|(known, _)| known.is(way)).map(|(_, number)| *number);
        let number = known.unwrap_or_else(|| {
            let number = on_the_way(way).map(|notice| self.number(notice));
            self.ways.push((way, number));
            number
        });
        if let Some(number) = number {
            self.add(number, &route.name);
        }
    }

    /// The number of the notice that says this.
    fn number(&mut self, notice: Notice) -> usize {
        let known = self.notices.iter().position(|known| known.says_the_same(&notice));
        known.unwrap_or_else(|| {
            self.notices.push(notice);
            self.notices.len() - 1
        })
    }

    fn add(&mut self, number: usize, route: &Text) {
        // Routes come one after the other.
        if let Some(notice) = self.notices.get_mut(number)
            && notice.routes.last() != Some(route)
        {
            notice.routes.push(route.clone());
        }
    }
}

/// What of a source's messages a target loses; `None` where it loses nothing.
fn on_the_way(Way { from, to, replies }: Way) -> Option<Notice> {
    let told = |part: &Part| {
        // A request has a reply address and an end of the gateway's own.
        let own = replies && matches!(part, Part::ReplyTo | Part::Expiry);
        from.carries(*part) && !own && !UNMENTIONED.contains(part)
    };
    let (kept, lost): (Vec<_>, Vec<_>) =
        Part::ALL.into_iter().filter(told).partition(|part| to.carries(*part));
    let altered = to.altered.iter().copied().filter(|(part, _)| kept.contains(part));
    let altered: Vec<_> = altered.collect();
    if lost.is_empty() && altered.is_empty() {
        return None;
    }
    let kept = if lost.len() > LISTED_MAX { kept } else { Vec::new() };
    let (from, to) = (from.protocol, to.protocol);
    Some(Notice { from, to, lost, kept, altered, ..Notice::nothing() })
}

impl Notice {
    fn nothing() -> Self {
        Self {
            from: "",
            to: "",
            lost: Vec::new(),
            kept: Vec::new(),
            altered: Vec::new(),
            remark: "",
            routes: Vec::new(),
        }
    }

    /// Whether another one differs in its routes at most.
    fn says_the_same(&self, other: &Self) -> bool {
        let Self { from, to, lost, kept, altered, remark, routes: _ } = self;
        (from, to, remark) == (&other.from, &other.to, &other.remark)
            && (lost, kept, altered) == (&other.lost, &other.kept, &other.altered)
    }

    /// The protocols, such as `MQTT 5 → HTTP:`.
    pub(super) fn pair(&self) -> String {
        let Self { from, to, .. } = self;
        if from.is_empty() { format!("to {to}:") } else { format!("{from} → {to}:") }
    }

    /// What happens, and on which routes.
    pub(super) fn sentence(&self) -> String {
        let mut parts = Vec::new();
        let names = |parts: &[Part]| parts.iter().map(|part| part.name()).collect::<Vec<_>>();
        if self.lost.len() > LISTED_MAX {
            let mut kept = vec!["address", "payload"];
            kept.extend(names(&self.kept));
            parts.push(format!("only {} come through", and(&kept)));
        } else if let [one] = self.lost[..] {
            parts.push(format!("{} is lost", one.name()));
        } else if !self.lost.is_empty() {
            parts.push(format!("{} are lost", and(&names(&self.lost))));
        }
        for (part, what) in &self.altered {
            parts.push(format!("{} becomes {what}", part.name()));
        }
        if !self.remark.is_empty() {
            parts.push(self.remark.to_owned());
        }
        let mut routes: Vec<_> = self.routes.iter().take(NAMED_MAX).map(|name| &**name).collect();
        let more = match self.routes.len().saturating_sub(NAMED_MAX) {
            0 => String::new(),
            more => format!("{more} more"),
        };
        routes.extend((!more.is_empty()).then_some(&*more));
        format!("{} ({})", parts.join("; "), and(&routes))
    }

    /// The notice for programs.
    pub fn to_json(&self) -> Json {
        let altered = self.altered.iter().map(|(part, what)| (part.name().to_owned(), json!(what)));
        json!({
            "from": (!self.from.is_empty()).then_some(self.from),
            "to": self.to,
            "lost": self.lost.iter().map(|part| part.name()).collect::<Vec<_>>(),
            "altered": altered.collect::<Map<_, _>>(),
            "remark": (!self.remark.is_empty()).then_some(self.remark),
            "routes": self.routes.iter().map(|name| &**name).collect::<Vec<_>>(),
        })
    }
}

fn and(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [all @ .., last] => format!("{} and {last}", all.join(", ")),
    }
}
