//! What a failover finds and makes in the target beside volumes: VMs with tags, bytes of volumes, snapshots.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;

use api::volume::{AttachRoot, DiscardRoot, SnapshotVolume};
use model::ownership::OwnedAs;

use super::hub::Hub;

/// The job all of it is for.
pub(crate) const JOB: &str = "job-of-the-failover";
/// Where bytes are written, in a volume of 2 GiB.
const OFFSET: u64 = 1 << 30;
/// How many.
const LENGTH: usize = 8192;

impl Hub {
    /// A VM as a failover makes it: not started, tagged.
    pub(crate) async fn shell(&self, name: &str) -> String {
        let vm_id = self.untagged_shell(name).await;
        self.tag("UserVm", &vm_id, OwnedAs::FailoverVm).await;
        vm_id
    }

    /// A VM that was not started.
    pub(crate) async fn untagged_shell(&self, name: &str) -> String {
        let operator = self.operator();
        let templates = operator.ok("listTemplates", &[("templatefilter", "executable")]).await;
        let template = templates["template"][0]["id"].as_str().expect("a template");
        let (zone, offering) = (self.sim.zone_id(), self.sim.service_offering_id());
        let parameters = [
            ("zoneid", zone.as_str()),
            ("serviceofferingid", offering.as_str()),
            ("templateid", template),
            ("name", name),
            ("startvm", "false"),
        ];
        let deployed = operator.done("deployVirtualMachine", &parameters).await;
        deployed["virtualmachine"]["id"].as_str().expect("its id").to_owned()
    }

    /// Puts our tags on something.
    pub(crate) async fn tag(&self, kind: &str, id: &str, owned_as: OwnedAs) {
        let tags = owned_as.tags(&self.context_id, JOB);
        let names: Vec<(String, String)> =
            (0..tags.len()).map(|index| (format!("tags[{index}].key"), format!("tags[{index}].value"))).collect();
        let mut parameters = vec![("resourceids", id), ("resourcetype", kind)];
        for ((key_name, value_name), (key, value)) in names.iter().zip(tags) {
            parameters.extend([(key_name.as_str(), key), (value_name.as_str(), value)]);
        }
        self.operator().done("createTags", &parameters).await;
    }

    /// The root of a VM, as CloudStack shows it.
    pub(crate) fn root_of(&self, vm_id: &str) -> Option<String> {
        let volumes = self.sim.volumes().into_iter();
        let root = volumes.filter(|volume| volume.vm_id.as_deref() == Some(vm_id) && volume.device_id == Some(0));
        root.map(|volume| volume.id).next()
    }

    /// Writes the same byte over and over into a volume.
    pub(crate) fn fill(&self, volume_uuid: &str, byte: u8) {
        let file = self.sim.volume(volume_uuid).expect("the volume").file.expect("its file");
        let file = OpenOptions::new().write(true).open(file).expect("open");
        file.write_all_at(&[byte; LENGTH], OFFSET).expect("written");
        file.sync_all().expect("kept");
    }

    /// Whether a volume holds what was filled in.
    pub(crate) fn holds(&self, volume_uuid: &str, byte: u8) -> bool {
        let file = self.sim.volume(volume_uuid).expect("the volume").file.expect("its file");
        let mut found = vec![0; LENGTH];
        std::fs::File::open(file).expect("open").read_exact_at(&mut found, OFFSET).expect("read");
        found.iter().all(|&seen| seen == byte)
    }

    /// Ids of everything listSnapshots shows of a volume, with their states.
    pub(crate) async fn snapshots_of(&self, volume_uuid: &str) -> Vec<(String, String)> {
        let listed = self.operator().ok("listSnapshots", &[("volumeid", volume_uuid), ("listall", "true")]).await;
        let rows = listed["snapshot"].as_array().cloned().unwrap_or_default();
        let text = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
        rows.iter().map(|row| (text(&row["id"]), text(&row["state"]))).collect()
    }

    /// Takes one, which must succeed; its id.
    pub(crate) async fn taken(&self, volume_uuid: &str, key: &str) -> String {
        let taken = self.done(self.api.snapshot(volume_uuid, &safety(), key).await).await;
        taken.snapshot_id.expect("its id")
    }

    /// A volume that was attached, filled with 1, snapshotted, filled with 2 and detached; and the volume_snapshot.
    pub(crate) async fn changed_volume(&self, key: &str) -> (String, String) {
        let uuid = self.attached_volume(key).await;
        self.fill(&uuid, 1);
        let snapshot_id = self.taken(&uuid, &format!("{key}-snapshot")).await;
        self.fill(&uuid, 2);
        self.done(self.api.detach(&uuid, &format!("{key}-detach")).await).await;
        (uuid, snapshot_id)
    }

    /// A volume that was attached once and is not now: what a failover attaches to its VM.
    pub(crate) async fn detached_volume(&self, key: &str) -> String {
        let uuid = self.attached_volume(key).await;
        self.done(self.api.detach(&uuid, &format!("{key}-detach")).await).await;
        uuid
    }

    /// The row of a volume.
    pub(crate) async fn row(&self, volume_uuid: &str) -> store::ossea_volumes::OsseaVolume {
        store::ossea_volumes::by_volume_id(&self.store, volume_uuid).await.expect("the row")
    }
}

/// What a failover asks for before it begins.
pub(crate) fn safety() -> SnapshotVolume {
    SnapshotVolume { name: "web-01-disk-0".to_owned(), vm_context_id: None, job_id: JOB.to_owned() }
}

/// To a VM, as its root.
pub(crate) fn root_of(vm_id: &str) -> AttachRoot {
    AttachRoot { vm_id: vm_id.to_owned() }
}

/// Nothing is known of the VM but its tags.
pub(crate) fn no_proof() -> DiscardRoot {
    DiscardRoot::default()
}
