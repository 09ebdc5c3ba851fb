//! How the disks of a VM could be read from here: what the hub chooses a reader from. It chooses nothing itself.

use std::collections::{BTreeMap, BTreeSet};

use api::vma::ReaderFacts;
use vsphere::{Datastore, VimSession, VirtualMachine};

use crate::hotadd::HotAdd;

/// Gathers it. What vCenter does not tell is told as not known: whoever chooses can do with little.
pub(crate) async fn facts(
    session: &VimSession,
    vm: &VirtualMachine,
    hotadd: &HotAdd,
    nbd_commands: Vec<String>,
) -> ReaderFacts {
    let of_source = datastores(session, vm).await;
    let mut facts = ReaderFacts { nbd_commands, datastore_types: types(&of_source), ..ReaderFacts::default() };
    match hotadd.own_vm(session).await.and_then(|own| own_is_fit(own, vm)) {
        Ok(own) => {
            let same_host = own.host.as_ref().map(|host| &host.moref) == vm.host.as_ref().map(|host| &host.moref);
            let of_own = if same_host { of_source } else { datastores(session, &own).await };
            facts.hotadd_datastores = of_own.into_iter().map(|datastore| datastore.name).collect();
            facts.own_vm = Some(own.name);
        }
        Err(refusal) => facts.hotadd_refusal = Some(refusal.to_string()),
    }
    facts
}

fn own_is_fit(own: VirtualMachine, vm: &VirtualMachine) -> Result<VirtualMachine, crate::hotadd::HotAddError> {
    HotAdd::suits(&own, vm).map(|()| own)
}

async fn datastores(session: &VimSession, vm: &VirtualMachine) -> BTreeSet<Datastore> {
    let Some(host) = &vm.host else { return BTreeSet::new() };
    session.host_datastores(&host.moref).await.unwrap_or_else(|error| {
        tracing::warn!(error = &error as &dyn std::error::Error, host = host.name, "its datastores are not known");
        BTreeSet::new()
    })
}

fn types(datastores: &BTreeSet<Datastore>) -> BTreeMap<String, String> {
    datastores.iter().map(|datastore| (datastore.name.clone(), datastore.kind.clone())).collect()
}
