//! The two formats of the page: Prometheus's text format 0.0.4, which etcd speaks, and OpenMetrics for those who ask.
//!
//! The encoder that we use writes OpenMetrics only. The two differ in little: the name of a counter's family has
//! `_total` in the text format, bounds of buckets are written as Go writes numbers, and there is no end mark.

use std::fmt::Write;

/// A format of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Prometheus's text format 0.0.4.
    Text,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

impl Format {
    /// The format for a client with this `Accept`: OpenMetrics if it asks for that by name, and for nothing else more.
    pub(crate) fn accepted(accept: &str) -> Format {
        let (mut open_metrics, mut text) = (0.0, 0.0);
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let weight = match parts.next() {
                Some("application/openmetrics-text") => &mut open_metrics,
                Some("text/plain" | "text/*" | "*/*") => &mut text,
                _ => continue,
            };
            *weight = f64::max(*weight, quality(parts));
        }
        if open_metrics > 0.0 && open_metrics >= text {
            Format::OpenMetrics
        } else {
            Format::Text
        }
    }

    /// The `Content-Type` of a page in this format.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Format::Text => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// The page, which is given in OpenMetrics, in this format.
    pub(super) fn page(self, open_metrics: String) -> String {
        match self {
            Format::Text => text(&open_metrics),
            Format::OpenMetrics => open_metrics,
        }
    }
}

/// How much a media range is wanted (RFC 9110, 12.4.2); fully, unless it says otherwise.
fn quality<'a>(mut parameters: impl Iterator<Item = &'a str>) -> f64 {
    let weight = parameters.find_map(|parameter| parameter.strip_prefix("q="));
    weight.map_or(1.0, |weight| weight.parse().unwrap_or(0.0))
}

fn text(open_metrics: &str) -> String {
    let mut page = String::with_capacity(open_metrics.len());
    let mut help = "";
    for line in open_metrics.lines() {
        if let Some(about) = line.strip_prefix("# HELP ") {
            // The type, which the name depends on, is on the next line.
            help = about.split_once(' ').map_or("", |(_name, help)| help);
        } else if let Some(about) = line.strip_prefix("# TYPE ") {
            begin_family(&mut page, about, help);
        } else if !line.starts_with('#') {
            sample(&mut page, line);
        }
    }
    page
}

fn begin_family(page: &mut String, about: &str, help: &str) {
    let (name, kind) = about.split_once(' ').unwrap_or((about, "untyped"));
    let (suffix, kind) = match kind {
        "counter" => ("_total", "counter"),
        // See BareCounter.
        "unknown" => ("", "counter"),
        kind => ("", kind),
    };
    let _infallible = write!(
        page,
        "# HELP {name}{suffix} {help}\n# TYPE {name}{suffix} {kind}\n"
    );
}

fn sample(page: &mut String, line: &str) {
    match bound(line) {
        Some((before, bound, after)) => {
            page.push_str(before);
            page.push_str(&go_number(bound));
            page.push_str(after);
        }
        None => page.push_str(line),
    }
    page.push('\n');
}

/// The bound of a bucket, which the encoder writes as the first label, and what is around it.
fn bound(line: &str) -> Option<(&str, f64, &str)> {
    let (name, _) = line.split_once("{le=\"")?;
    let (before, rest) = line.split_at(name.len() + "{le=\"".len());
    let end = rest.find('"')?;
    let (bound, after) = rest.split_at(end);
    Some((
        before,
        bound.parse().ok().filter(|bound: &f64| bound.is_finite())?,
        after,
    ))
}

/// A number as Go's `%g` writes it: dashboards compare the bounds of buckets as text.
fn go_number(number: f64) -> String {
    let scientific = format!("{number:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else {
        return scientific;
    };
    match exponent.parse::<i32>() {
        Ok(exponent) if !(-4..6).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.abs())
        }
        _ => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_metrics_is_for_those_who_prefer_it() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for (accept, format) in [
            ("", Format::Text),
            ("*/*", Format::Text),
            ("text/html, text/plain", Format::Text),
            ("application/openmetrics-text", Format::OpenMetrics),
            (prometheus, Format::OpenMetrics),
            (
                "application/openmetrics-text;q=0.1, text/plain;q=0.2",
                Format::Text,
            ),
            ("application/openmetrics-text; q=0, */*;q=0", Format::Text),
            ("application/openmetrics-text;q=much", Format::Text),
        ] {
            assert_eq!(Format::accepted(accept), format, "{accept}");
        }
    }

    #[test]
    fn numbers_are_as_go_writes_them() {
        for (number, text) in [
            (1.0, "1"),
            (0.005, "0.005"),
            (8.192, "8.192"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (524_288.0, "524288"),
            (1_048_576.0, "1.048576e+06"),
            (8_388_608.0, "8.388608e+06"),
        ] {
            assert_eq!(go_number(number), text);
        }
    }

    #[test]
    fn the_text_format_differs_in_names_of_counters_bounds_and_the_end() {
        let open_metrics = "# HELP a Help of a.\n# TYPE a counter\na_total{x=\"y z\"} 1\n\
             # HELP b Help.\n# TYPE b unknown\nb 2\n\
             # HELP c Help.\n# TYPE c histogram\nc_sum 0.5\nc_count 1\n\
             c_bucket{le=\"1.0\",x=\"{le=\\\"2.0\"} 1\nc_bucket{le=\"+Inf\"} 1\n# EOF\n";
        let expected = "# HELP a_total Help of a.\n# TYPE a_total counter\na_total{x=\"y z\"} 1\n\
             # HELP b Help.\n# TYPE b counter\nb 2\n\
             # HELP c Help.\n# TYPE c histogram\nc_sum 0.5\nc_count 1\n\
             c_bucket{le=\"1\",x=\"{le=\\\"2.0\"} 1\nc_bucket{le=\"+Inf\"} 1\n";
        assert_eq!(Format::Text.page(open_metrics.to_owned()), expected);
        assert_eq!(Format::OpenMetrics.page(open_metrics.to_owned()), open_metrics);
    }
}
