//! What the kernel tells of a container's groups, in the form of runc's `events`.

use super::{read, schemata};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// `data.intel_rdt` of a `stats` event. Empty for a container without it.
#[derive(Debug, Default, Serialize)]
pub struct Statistics {
    #[serde(skip_serializing_if = "Option::is_none")]
    l3_cache_info: Option<L3CacheInfo>,
    #[serde(skip_serializing_if = "String::is_empty")]
    l3_cache_schema_root: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    l3_cache_schema: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    mem_bw_info: Option<MemBwInfo>,
    #[serde(skip_serializing_if = "String::is_empty")]
    mem_bw_schema_root: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    mem_bw_schema: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    mbm_stats: Vec<Bandwidth>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cmt_stats: Vec<Occupancy>,
}

#[derive(Debug, Serialize)]
struct L3CacheInfo {
    cbm_mask: String,
    min_cbm_bits: u64,
    num_closids: u64,
}

#[derive(Debug, Serialize)]
struct MemBwInfo {
    bandwidth_gran: u64,
    delay_linear: u64,
    min_bandwidth: u64,
    num_closids: u64,
}

/// Bytes since the counters began, of one domain.
#[derive(Debug, Serialize)]
struct Bandwidth {
    mbm_total_bytes: u64,
    mbm_local_bytes: u64,
}

/// Bytes of the last level cache, of one domain.
#[derive(Debug, Serialize)]
struct Occupancy {
    llc_occupancy: u64,
}

impl Statistics {
    /// Reads them. `groups` are the directories whose `tasks` the container's processes are in: control, then monitoring.
    /// What the processor lacks is left out; so is what cannot be read, since groups come and go.
    pub fn read(root: &Path, groups: &[PathBuf]) -> Self {
        let text = |path: PathBuf| read(&path).ok();
        let info = |file: &str| text(root.join("info").join(file)).map(|text| text.trim().to_owned());
        let number = |file: &str| info(file).and_then(|text| text.parse().ok()).unwrap_or(0);
        let of_root = text(root.join("schemata")).unwrap_or_default();
        let own = groups.first().and_then(|group| text(group.join("schemata"))).unwrap_or_default();
        let line = |text: &str, resource: &str| schemata::line(text, resource).unwrap_or_default().to_owned();
        let (mut mbm_stats, mut cmt_stats) = (Vec::new(), Vec::new());
        for domain in groups.get(1).map(|monitor| domains(&monitor.join("mon_data"))).unwrap_or_default() {
            let count = |file: &str| text(domain.join(file)).and_then(|text| text.trim().parse::<u64>().ok());
            if let (Some(mbm_total_bytes), Some(mbm_local_bytes)) = (count("mbm_total_bytes"), count("mbm_local_bytes")) {
                mbm_stats.push(Bandwidth { mbm_total_bytes, mbm_local_bytes });
            }
            cmt_stats.extend(count("llc_occupancy").map(|llc_occupancy| Occupancy { llc_occupancy }));
        }
        Self {
            l3_cache_info: info("L3/cbm_mask").map(|cbm_mask| L3CacheInfo {
                cbm_mask,
                min_cbm_bits: number("L3/min_cbm_bits"),
                num_closids: number("L3/num_closids"),
            }),
            l3_cache_schema_root: line(&of_root, "L3"),
            l3_cache_schema: line(&own, "L3"),
            mem_bw_info: info("MB/min_bandwidth").map(|_| MemBwInfo {
                bandwidth_gran: number("MB/bandwidth_gran"),
                delay_linear: number("MB/delay_linear"),
                min_bandwidth: number("MB/min_bandwidth"),
                num_closids: number("MB/num_closids"),
            }),
            mem_bw_schema_root: line(&of_root, "MB"),
            mem_bw_schema: line(&own, "MB"),
            mbm_stats,
            cmt_stats,
        }
    }
}

/// `mon_L3_00` and so on, in order.
fn domains(mon_data: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(mon_data).into_iter().flatten().flatten();
    let mut all: Vec<_> = entries.map(|e| e.path()).filter(|p| p.is_dir()).collect();
    all.sort();
    all
}
