//! How a node is doing.

use super::client::{get, put};
use super::{cluster, leader};
use crate::process::eventually;

#[test]
fn a_node_says_over_http_what_the_command_line_says_of_it() {
    let cluster = cluster(1, &[]);
    let node = leader(&cluster);
    put(node, "/v1/kv/k", b"v").is(201);
    // A write is answered before the node's next look at itself.
    let said = eventually("both say the same", || {
        let over_http = get(node, "/v1/status").is(200).json();
        (over_http == cluster.status()[0]).then_some(over_http)
    });
    assert_eq!(said["role"], "leader");
    get(node, "/healthz").is(200);
    assert_eq!(get(node, "/readyz").is(200).json()["leader"], 1);
}

#[test]
fn metrics_are_in_the_text_format_of_prometheus() {
    let cluster = cluster(1, &[]);
    let node = leader(&cluster);
    put(node, "/v1/kv/k", b"v").is(201);
    for path in ["/v1/kv/k", "/v1/kv/other", "/nowhere/\"x", "/elsewhere"] {
        get(node, path);
    }
    let metrics = get(node, "/metrics").is(200);
    assert_eq!(metrics.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    let mut families = Vec::new();
    for line in metrics.text().lines() {
        if let Some(name) = line.strip_prefix("# TYPE ") {
            families.push(name.split(' ').next().unwrap());
        } else if !line.starts_with("# HELP ") {
            let (series, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<f64>().unwrap() >= 0.0, "{line}");
            let name = series.split('{').next().unwrap();
            let of_histogram = |end| name.strip_suffix(end).filter(|name| families.contains(name));
            let name =
                ["_bucket", "_sum", "_count"].into_iter().find_map(of_histogram).unwrap_or(name);
            assert_eq!(families.last(), Some(&name), "{line}");
            assert!(series == name || series.ends_with("\"}"), "{line}");
        }
    }
    let unique: std::collections::BTreeSet<_> = families.iter().collect();
    assert_eq!(unique.len(), families.len(), "a family comes once: {families:?}");
    for line in [
        "raft_role{role=\"leader\"} 1",
        "raft_leader_id 1",
        "raft_refused_total{reason=\"requests\"} 0",
        "kv_http_requests_total{route=\"/v1/kv/{*key}\",method=\"PUT\",status=\"201\"} 1",
        "kv_http_requests_total{route=\"/v1/kv/{*key}\",method=\"GET\",status=\"404\"} 1",
        "kv_http_requests_total{route=\"other\",method=\"GET\",status=\"404\"} 2",
        "kv_http_requests_in_flight 1",
        "kv_http_request_seconds_bucket{route=\"other\",le=\"+Inf\"} 2",
        "kv_http_request_seconds_count{route=\"other\"} 2",
        "kv_leases 0",
        "kv_history_seconds 0",
    ] {
        assert!(metrics.text().lines().any(|other| other == line), "{line} in {}", metrics.text());
    }
}
