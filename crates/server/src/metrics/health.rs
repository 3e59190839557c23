//! What the health pages have answered.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::register::{BareCounter, add};

/// What the health pages have answered.
pub(crate) struct HealthCounts {
    /// Answers of `/health` that the member is healthy.
    pub(crate) successes: BareCounter,
    /// Answers of `/health` that it is not.
    pub(crate) failures: BareCounter,
    last: Family<CheckLabels, Gauge>,
    checks: Family<OutcomeLabels, Counter>,
}

impl HealthCounts {
    pub(super) fn new(r: &mut Registry) -> HealthCounts {
        HealthCounts {
            successes: add(
                r,
                "etcd_server_health_success",
                "Answers of /health that all is well",
                BareCounter::default(),
            ),
            failures: add(
                r,
                "etcd_server_health_failures",
                "Answers of /health that something is wrong",
                BareCounter::default(),
            ),
            last: add(
                r,
                "etcd_server_healthcheck",
                "The last outcome of each check of /livez and /readyz: 1 is good",
                Family::default(),
            ),
            checks: add(
                r,
                "etcd_server_healthchecks",
                "Checks of /livez and /readyz by outcome",
                Family::default(),
            ),
        }
    }

    /// Counts a check of the page of this name.
    pub(crate) fn count_check<E>(&self, page: &'static str, name: &'static str, outcome: &Result<(), E>) {
        let (status, value) = match outcome {
            Ok(()) => ("success", 1),
            Err(_) => ("error", 0),
        };
        self.last
            .get_or_create(&CheckLabels { r#type: page, name })
            .set(value);
        let labels = OutcomeLabels {
            r#type: page,
            name,
            status,
        };
        self.checks.get_or_create(&labels).inc();
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CheckLabels {
    r#type: &'static str,
    name: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OutcomeLabels {
    r#type: &'static str,
    name: &'static str,
    status: &'static str,
}
