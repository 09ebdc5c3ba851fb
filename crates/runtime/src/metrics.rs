//! Counters and gauges, rendered in the Prometheus text format (version 0.0.4). Keeps values only; serving them is the
//! router's part.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Media type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Most label sets of one name: labels must not grow with what peers send. Further ones count into one without labels'
/// values, `overflow="true"`.
pub const MAX_SERIES: usize = 1000;

/// A value that only rises.
#[derive(Debug, Clone, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    /// Adds.
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// The present value.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A value that rises and falls.
#[derive(Debug, Clone, Default)]
pub struct Gauge(Arc<AtomicI64>);

impl Gauge {
    /// Sets.
    pub fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Adds; a negative amount takes away.
    pub fn add(&self, amount: i64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// The present value.
    #[must_use]
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The metrics of a process. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    families: Arc<Mutex<Families>>,
}

#[derive(Debug, Default)]
struct Families {
    counters: BTreeMap<&'static str, Family<Counter>>,
    gauges: BTreeMap<&'static str, Family<Gauge>>,
}

#[derive(Debug)]
struct Family<V> {
    help: &'static str,
    series: BTreeMap<String, V>,
}

impl<V: Clone + Default> Family<V> {
    fn series(&mut self, labels: &[(&str, &str)]) -> V {
        let mut labels = rendered(labels);
        if !self.series.contains_key(&labels) && self.series.len() >= MAX_SERIES {
            labels = rendered(&[("overflow", "true")]);
        }
        self.series.entry(labels).or_default().clone()
    }
}

impl Metrics {
    /// The counter of this name (ending in `_total`, with its unit before) and these labels; the same one each time.
    #[must_use]
    pub fn counter(&self, name: &'static str, help: &'static str, labels: &[(&str, &str)]) -> Counter {
        let mut families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        families.counters.entry(name).or_insert_with(|| Family { help, series: BTreeMap::new() }).series(labels)
    }

    /// The gauge of this name (ending in its unit) and these labels; the same one each time.
    #[must_use]
    pub fn gauge(&self, name: &'static str, help: &'static str, labels: &[(&str, &str)]) -> Gauge {
        let mut families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        families.gauges.entry(name).or_insert_with(|| Family { help, series: BTreeMap::new() }).series(labels)
    }

    /// Everything in the Prometheus text format.
    #[must_use]
    pub fn render(&self) -> String {
        let families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        for (name, family) in &families.counters {
            let values = family.series.iter().map(|(labels, counter)| (labels, counter.get().to_string()));
            render_family(&mut text, name, "counter", family.help, values);
        }
        for (name, family) in &families.gauges {
            let values = family.series.iter().map(|(labels, gauge)| (labels, gauge.get().to_string()));
            render_family(&mut text, name, "gauge", family.help, values);
        }
        text
    }
}

fn render_family<'a>(
    text: &mut String,
    name: &str,
    kind: &str,
    help: &str,
    values: impl Iterator<Item = (&'a String, String)>,
) {
    let help = help.replace('\\', "\\\\").replace('\n', "\\n");
    // Writing to a string cannot fail.
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    for (labels, value) in values {
        let _ = writeln!(text, "{name}{labels} {value}");
    }
}

/// `{a="b",c="d"}`, or nothing without labels.
fn rendered(labels: &[(&str, &str)]) -> String {
    if labels.is_empty() {
        return String::new();
    }
    let escaped = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let pairs: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
    format!("{{{}}}", pairs.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_what_prometheus_reads() {
        let metrics = Metrics::default();
        metrics.counter("read_bytes_total", "Bytes read.", &[("export", "a")]).add(5);
        metrics.counter("read_bytes_total", "Bytes read.", &[("export", "a")]).add(2);
        metrics.counter("read_bytes_total", "Bytes read.", &[("export", "b\"\\\n")]).add(1);
        let open = metrics.gauge("connections", "Open connections.", &[]);
        open.add(3);
        open.add(-1);
        let expected = r#"# HELP read_bytes_total Bytes read.
# TYPE read_bytes_total counter
read_bytes_total{export="a"} 7
read_bytes_total{export="b\"\\\n"} 1
# HELP connections Open connections.
# TYPE connections gauge
connections 2
"#;
        assert_eq!(metrics.render(), expected);
    }

    #[test]
    fn labels_that_grow_are_bounded() {
        let metrics = Metrics::default();
        for number in 0..MAX_SERIES + 10 {
            metrics.counter("seen_total", "Seen.", &[("who", &number.to_string())]).add(1);
        }
        let text = metrics.render();
        assert_eq!(text.lines().count(), 2 + MAX_SERIES + 1);
        assert!(text.contains("seen_total{overflow=\"true\"} 10\n"));
        metrics.counter("seen_total", "Seen.", &[("who", "1")]).add(1);
        assert!(metrics.render().contains("seen_total{who=\"1\"} 2\n"), "known ones go on");
    }
}
