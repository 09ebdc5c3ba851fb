//! Names of the objects around a VM: its folders and datacenter, its host, its networks.
//!
//! Names arrive with `/`, `\` and `%` escaped (vim25 `ManagedEntity.name`); paths keep that, people see it undone.

use std::collections::{BTreeSet, HashMap};

use model::FailureKind;

use crate::error::VsphereError;
use crate::moref::MoRef;
use crate::properties::{Among, ObjectContent, Wanted, retrieve};
use crate::session::VimSession;

/// Objects asked for in one call: one page of the answer, so that no page depends on an earlier session.
const CHUNK_OBJECTS: usize = 50;
/// Most levels of folders followed upwards; vCenter itself stops at a few dozen.
const MAX_LEVELS: usize = 64;

/// An object's name and what is needed to go on from it.
#[derive(Debug, Clone, Default)]
struct Known {
    escaped_name: String,
    parent: Option<MoRef>,
    portgroup_key: Option<String>,
    opaque_id: Option<String>,
}

/// Where a VM is in the inventory.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) path: String,
    pub(crate) datacenter: String,
    pub(crate) datacenter_path: String,
}

/// Everything known by name.
#[derive(Debug, Default)]
pub(crate) struct Names {
    known: HashMap<MoRef, Known>,
}

impl Names {
    /// Asks for the names of `objects` and of everything above them.
    ///
    /// Objects that are gone or may not be seen stay unknown.
    pub(crate) async fn gather(session: &VimSession, objects: BTreeSet<MoRef>) -> Result<Self, VsphereError> {
        let mut names = Self::default();
        let mut pending = objects;
        for _ in 0..MAX_LEVELS {
            if pending.is_empty() {
                break;
            }
            let asked: Vec<MoRef> = pending.into_iter().collect();
            for group in asked.chunk_by(|a, b| a.kind() == b.kind()) {
                for chunk in group.chunks(CHUNK_OBJECTS) {
                    names.read_chunk(session, chunk).await?;
                }
            }
            let parents = asked.iter().filter_map(|object| names.known.get(object)?.parent.clone());
            pending = parents.filter(|parent| !names.known.contains_key(parent)).collect();
        }
        Ok(names)
    }

    async fn read_chunk(&mut self, session: &VimSession, chunk: &[MoRef]) -> Result<(), VsphereError> {
        match self.read(session, chunk).await {
            Err(error) if is_out_of_sight(&error) && chunk.len() == 1 => Ok(()),
            Err(error) if is_out_of_sight(&error) => {
                // One object that is gone spoils the whole call.
                for object in chunk {
                    match self.read(session, std::slice::from_ref(object)).await {
                        Err(error) if !is_out_of_sight(&error) => return Err(error),
                        _ => {}
                    }
                }
                Ok(())
            }
            other => other,
        }
    }

    async fn read(&mut self, session: &VimSession, objects: &[MoRef]) -> Result<(), VsphereError> {
        let Some(kind) = objects.first().map(MoRef::kind) else { return Ok(()) };
        let wanted = Wanted { kind, paths: paths_of(kind) };
        retrieve(session, wanted, Among::Objects(objects), |content| self.learn(&content)).await
    }

    /// Remembers one object.
    pub(crate) fn learn(&mut self, content: &ObjectContent) {
        let opaque_id = content.get("summary").and_then(|summary| summary.text_of("opaqueNetworkId"));
        let known = Known {
            escaped_name: content.text("name").unwrap_or_default().to_owned(),
            // The parent of a vApp is its resource pool; the folder it is shown in is another property.
            parent: content.reference("parentFolder").or_else(|| content.reference("parent")),
            portgroup_key: content.text("key").map(str::to_owned),
            opaque_id: opaque_id.map(str::to_owned),
        };
        self.known.insert(content.moref.clone(), known);
    }

    /// The name of an object, as people write it.
    pub(crate) fn plain(&self, object: &MoRef) -> Option<String> {
        self.known.get(object).map(|known| plain_name(&known.escaped_name)).filter(|name| !name.is_empty())
    }

    /// The name of the port group with that key, looked for among the VM's networks first.
    pub(crate) fn portgroup(&self, key: &str, networks: &[MoRef]) -> Option<String> {
        let has_key =
            |network: &&MoRef| self.known.get(network).is_some_and(|known| known.portgroup_key.as_deref() == Some(key));
        let listed = networks.iter().find(has_key).and_then(|network| self.plain(network));
        listed.or_else(|| self.plain(&MoRef::new("DistributedVirtualPortgroup", key)))
    }

    /// The name of the NSX network with that id among the VM's networks.
    pub(crate) fn opaque(&self, id: &str, networks: &[MoRef]) -> Option<String> {
        let has_id =
            |network: &&MoRef| self.known.get(network).is_some_and(|known| known.opaque_id.as_deref() == Some(id));
        networks.iter().find(has_id).and_then(|network| self.plain(network))
    }

    /// The path of a VM called `escaped_name` under `parent`. The root folder has no part in it.
    pub(crate) fn place(&self, parent: Option<&MoRef>, escaped_name: &str) -> Place {
        let mut above: Vec<(&MoRef, &Known)> = Vec::new();
        let mut next = parent;
        while let Some((object, known)) = next.and_then(|object| Some((object, self.known.get(object)?))) {
            if above.len() >= MAX_LEVELS {
                break;
            }
            above.push((object, known));
            next = known.parent.as_ref();
        }
        // The outermost one is the root folder, unless the view ended early.
        if above.last().is_some_and(|(object, known)| known.parent.is_none() && object.kind() == "Folder") {
            above.pop();
        }
        above.reverse();
        let segment = |name: &str| name.replace('/', "%2f");
        let mut place = Place::default();
        for (object, known) in above {
            place.path.push('/');
            place.path.push_str(&segment(&known.escaped_name));
            if object.kind() == "Datacenter" {
                place.datacenter = plain_name(&known.escaped_name);
                place.datacenter_path = place.path.trim_start_matches('/').to_owned();
            }
        }
        place.path.push('/');
        place.path.push_str(&segment(escaped_name));
        place
    }
}

fn is_out_of_sight(error: &VsphereError) -> bool {
    error.fault().is_some() && matches!(error.kind(), FailureKind::NotFound | FailureKind::Forbidden)
}

fn paths_of(kind: &str) -> &'static [&'static str] {
    match kind {
        "Folder" | "Datacenter" => &["name", "parent"],
        "VirtualApp" => &["name", "parent", "parentFolder"],
        "DistributedVirtualPortgroup" => &["name", "key"],
        "OpaqueNetwork" => &["name", "summary"],
        _ => &["name"],
    }
}

/// Undoes vim25's escaping of `/`, `\` and `%` in names; anything else stays as it is.
pub(crate) fn plain_name(escaped: &str) -> String {
    let mut plain = String::with_capacity(escaped.len());
    let mut rest = escaped;
    while let Some(at) = rest.find('%') {
        let (before, from) = rest.split_at(at);
        plain.push_str(before);
        let code = from.get(1..3).unwrap_or_default();
        let character = match code {
            "2f" | "2F" => '/',
            "5c" | "5C" => '\\',
            "25" => '%',
            _ => {
                plain.push('%');
                rest = &from[1..];
                continue;
            }
        };
        plain.push(character);
        rest = &from[3..];
    }
    plain.push_str(rest);
    plain
}

/// Escapes a name of our own as vim25 wants it.
pub(crate) fn escaped_name(plain: &str) -> String {
    plain.replace('%', "%25").replace('/', "%2f").replace('\\', "%5c")
}
