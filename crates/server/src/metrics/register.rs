//! Making a metric and registering it at once, and the one kind that OpenMetrics has no name for.

use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::{Metric, Registry};

/// Registers `metric` and gives it back.
pub(crate) fn add<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register(name, help, metric.clone());
    metric
}

pub(super) fn gauge(registry: &mut Registry, name: &str, help: &str) -> Gauge {
    add(registry, name, help, Gauge::default())
}

/// The encoder adds `_total` to the name.
pub(crate) fn counter(registry: &mut Registry, name: &str, help: &str) -> Counter {
    add(registry, name, help, Counter::default())
}

/// From 1 ms to 8 s in steps of two: etcd's buckets for what goes to a disk.
pub(super) fn disk_histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 14))
}

/// From 0.1 ms to 52 s in steps of two: etcd's buckets for what is done in memory.
pub(super) fn memory_histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.0001, 2.0, 20))
}

/// From 0.1 ms to 3.3 s in steps of two: etcd's buckets for the way to a peer and back.
pub(super) fn round_trip_histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.0001, 2.0, 16))
}

/// From 0.1 s to 51 s in steps of two: etcd's buckets for a snapshot on its way.
pub(super) fn transfer_histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.1, 2.0, 10))
}

/// A counter whose name does not end in `_total`, as some of etcd's do not.
///
/// OpenMetrics has no such counters, so it is of unknown type there. In the text format it is a counter:
/// see [`super::text`].
#[derive(Clone, Debug, Default)]
pub(crate) struct BareCounter(Counter);

impl BareCounter {
    pub(crate) fn inc(&self) {
        self.0.inc();
    }
}

impl TypedMetric for BareCounter {
    const TYPE: MetricType = MetricType::Unknown;
}

impl EncodeMetric for BareCounter {
    fn encode(&self, mut encoder: MetricEncoder) -> Result<(), std::fmt::Error> {
        encoder.encode_gauge(&self.0.get())
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}
