//! Looking at a vCenter through an agent; the last scan of each is kept so that adding needs no second walk.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use api::oma::discovery::{ScanRequest, ScanResult, ScannedVm};
use api::vma::{DiscoverRequest, Inventory};
use parking_lot::Mutex;
use store::vm_replication_contexts;
use tokio::time::Instant;

use super::vcenter;
use crate::error::OmaError;
use crate::state::OmaState;

/// How long a scan may be used to add VMs.
const SCAN_LIFETIME: Duration = Duration::from_secs(15 * 60);
/// Scans kept; the oldest goes first. An inventory of 10,000 VMs takes about 30 MiB.
const MAX_SCANS: usize = 8;

/// One look at a vCenter.
#[derive(Debug)]
pub(super) struct Scan {
    pub(super) credential_id: String,
    pub(super) enrollment_id: String,
    pub(super) vcenter_host: String,
    pub(super) inventory: Inventory,
    taken_at: Instant,
}

/// The last scans, by credential and agent.
#[derive(Debug, Default)]
pub struct ScanCache {
    scans: Mutex<HashMap<(String, String), Arc<Scan>>>,
}

impl ScanCache {
    fn put(&self, scan: Arc<Scan>) {
        let mut scans = self.scans.lock();
        scans.insert((scan.credential_id.clone(), scan.enrollment_id.clone()), scan);
        if scans.len() > MAX_SCANS {
            let oldest = scans.iter().min_by_key(|(_, scan)| scan.taken_at).map(|(key, _)| key.clone());
            oldest.and_then(|key| scans.remove(&key));
        }
    }

    fn get(&self, credential_id: &str, enrollment_id: &str) -> Option<Arc<Scan>> {
        let key = (credential_id.to_owned(), enrollment_id.to_owned());
        self.scans.lock().get(&key).filter(|scan| scan.taken_at.elapsed() < SCAN_LIFETIME).cloned()
    }
}

/// Looks at a vCenter and says what is there.
///
/// # Errors
/// There is no such credential or agent, or the agent cannot look.
pub async fn scan(state: &OmaState, request: &ScanRequest) -> Result<ScanResult, OmaError> {
    let scan = fresh(state, request.credential_id.as_deref(), request.enrollment_id.as_deref()).await?;
    let known: HashMap<String, String> =
        vm_replication_contexts::known_in(state.store(), &scan.vcenter_host).await?.into_iter().collect();
    let wanted = request.filter.as_deref().unwrap_or_default().to_lowercase();
    let vms = scan.inventory.vms.iter().filter(|vm| vm.path.to_lowercase().contains(&wanted));
    Ok(ScanResult {
        vcenter_name: scan.inventory.vcenter_name.clone(),
        credential_id: scan.credential_id.clone(),
        enrollment_id: scan.enrollment_id.clone(),
        vms: vms.map(|vm| ScannedVm { context_id: known.get(&vm.instance_uuid).cloned(), vm: vm.clone() }).collect(),
    })
}

/// The last scan, or a new one when there is none that is young enough.
pub(super) async fn recent(
    state: &OmaState,
    credential_id: Option<&str>,
    enrollment_id: Option<&str>,
) -> Result<Arc<Scan>, OmaError> {
    let credential = vcenter::credential(state, credential_id).await?;
    let agent = chosen_agent(state, enrollment_id)?;
    match state.scans().get(&credential.id, &agent) {
        Some(scan) => Ok(scan),
        None => fresh(state, Some(&credential.id), Some(&agent)).await,
    }
}

async fn fresh(
    state: &OmaState,
    credential_id: Option<&str>,
    enrollment_id: Option<&str>,
) -> Result<Arc<Scan>, OmaError> {
    let credential = vcenter::credential(state, credential_id).await?;
    let enrollment_id = chosen_agent(state, enrollment_id)?;
    let connection = vcenter::connection(state, Some(&credential.id)).await?;
    let request = DiscoverRequest { vcenter: connection, filter: None };
    let mut inventory = state.agents().client(&enrollment_id)?.discover(&request).await?;
    if !credential.datacenter.is_empty() {
        inventory.vms.retain(|vm| vm.datacenter == credential.datacenter);
    }
    let scan = Arc::new(Scan {
        credential_id: credential.id,
        enrollment_id,
        vcenter_host: credential.vcenter_host,
        inventory,
        taken_at: Instant::now(),
    });
    state.scans().put(Arc::clone(&scan));
    Ok(scan)
}

fn chosen_agent(state: &OmaState, named: Option<&str>) -> Result<String, OmaError> {
    match named {
        Some(id) => Ok(id.to_owned()),
        None => Ok(state.agents().only_connected()?.0),
    }
}
