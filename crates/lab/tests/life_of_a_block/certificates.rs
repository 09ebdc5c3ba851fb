//! Certificates of equality: issued with each commit, chained, verified offline; and what happens when the hub's digests
//! are lost.

use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use lab::world::Roles;
use lab::world::proof::replica_of;
use serde_json::Value;

use super::stage::{Stage, VM, modes};

/// Exit code of what is wrong in itself.
const INVALID: i32 = 5;
/// Exit code of what contradicts the present state.
const CONFLICT: i32 = 4;

impl Stage {
    /// Fetches the certificates of a disk, oldest first.
    async fn certificate_files(&self, disk_id: &str) -> Vec<String> {
        let listed = self.command(&["certificate", "list", VM]).await;
        let of_disk = listed["items"].as_array().unwrap().iter().rev().filter(|one| one["disk_id"] == disk_id);
        let mut files = Vec::new();
        for certificate in of_disk {
            let id = certificate["id"].as_str().unwrap();
            let path = self.world.dir().join(format!("{id}.cert"));
            let path = path.to_str().unwrap().to_owned();
            let get = ["certificate", "get", id, "--output-file", &path];
            assert_eq!(self.world.operator().run(&get).await.unwrap().code, 0);
            assert_eq!(self.world.operator().run(&get).await.unwrap().code, CONFLICT, "it is not overwritten");
            let printed = self.world.operator().run(&["certificate", "get", id]).await.unwrap();
            assert_eq!(printed.stdout, std::fs::read_to_string(&path).unwrap());
            files.push(path);
        }
        files
    }

    async fn verified(&self, files: &[&str]) -> Value {
        self.command(&[&["verify", "cert"], files].concat()).await
    }

    /// Verifies what has to be refused; answers with what was said.
    async fn refused(&self, files: &[&str]) -> String {
        let output = self.world.operator().run(&[&["verify", "cert"], files].concat()).await.unwrap();
        assert_eq!((output.code, output.stdout.as_str()), (INVALID, ""), "{}", output.stderr);
        let problem: Value = serde_json::from_str(&output.stderr).unwrap();
        assert!(problem["remedy"].is_string(), "{problem:#}");
        problem["detail"].as_str().unwrap().to_owned()
    }

    /// The hub's digest files.
    fn digest_files(&self) -> Vec<PathBuf> {
        let folder = std::fs::read_dir(self.world.dir().join("hub/digests")).unwrap();
        let mut files: Vec<PathBuf> = folder.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_commit_is_certified_and_anybody_can_verify_it() {
    let stage = Stage::ready(Roles::Together).await;
    stage.replicated().await;
    stage.guest_writes(20, 7).await;
    let second = stage.replicated().await;
    assert_eq!(modes(&second), ["incremental", "incremental"]);
    for (disk, now) in stage.world.disks().iter().zip(second["certificates"].as_array().unwrap()) {
        let files = stage.certificate_files(&disk.disk_id).await;
        let [first, last] = [files[0].as_str(), files[1].as_str()];
        let documents = stage.verified(&[first, last]).await;
        assert_eq!(documents[1]["root"], now["root"]);
        assert_eq!(
            (&documents[0]["sync_mode"], &documents[1]["sync_mode"]),
            (&"initial".into(), &"incremental".into())
        );
        assert_ne!(documents[0]["root"], documents[1]["root"]);
        let key = now["public_key"].as_str().unwrap();
        stage.verified(&[first, last, "--key", key]).await;
        assert!(stage.refused(&[first, "--key", &"0".repeat(64)]).await.contains("is signed by"));
        assert!(stage.refused(&[last, first]).await.contains("does not follow"));
        let text = std::fs::read(last).unwrap();
        for at in [1, text.len() / 3, text.len() - 100, text.len() - 1] {
            let mut changed = text.clone();
            changed[at] ^= 1;
            std::fs::write(last, changed).unwrap();
            stage.refused(&[last]).await;
        }
        std::fs::write(last, &text).unwrap();
        stage.verified(&[last]).await;
    }
    let names = stage.digest_files();
    assert!(names.len() == 2 && names.iter().all(|name| name.extension().unwrap() == "leaves"), "{names:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_digests_are_made_anew_by_comparing_everything() {
    let stage = Stage::ready(Roles::Together).await;
    stage.replicated().await;
    stage.guest_writes(5, 1).await;
    std::fs::remove_file(&stage.digest_files()[0]).unwrap();
    let increment = stage.world.operator().run(&["replicate", VM, "--type", "incremental"]).await.unwrap();
    assert_eq!(increment.code, CONFLICT, "{}", increment.stderr);
    assert!(increment.stderr.contains("the file of its digests is gone"), "{}", increment.stderr);
    assert_eq!(modes(&stage.replicated().await), ["compare", "compare"]);

    stage.guest_writes(5, 2).await;
    assert_eq!(modes(&stage.replicated().await), ["incremental", "incremental"]);

    // One bit of one digest, which only the certified root can tell.
    let file = std::fs::OpenOptions::new().read(true).write(true).open(&stage.digest_files()[1]).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 4096 + 32 * 700).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 4096 + 32 * 700).unwrap();
    stage.guest_writes(5, 3).await;
    assert_eq!(modes(&stage.replicated().await), ["compare", "compare"]);

    for disk in stage.world.disks() {
        let files = stage.certificate_files(&disk.disk_id).await;
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        assert_eq!(stage.verified(&files).await.as_array().unwrap().len(), 4, "the chain goes on");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_flipped_bit_of_a_replica_is_found_and_its_leaf_named() {
    let stage = Stage::ready(Roles::Together).await;
    let verify = ["verify", "disk", VM, "--watch"];
    let early = stage.world.operator().run(&verify).await.unwrap();
    assert_eq!(early.code, CONFLICT, "{}", early.stderr);
    stage.replicated().await;
    stage.guest_writes(5, 1).await;
    stage.replicated().await;
    stage.command(&verify).await;

    let disk = &stage.world.disks()[1];
    let replica = replica_of(&stage.world, disk).await.unwrap();
    let file = std::fs::OpenOptions::new().read(true).write(true).open(&replica).unwrap();
    let offset = 65_536 * 1234 + 77;
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], offset).unwrap();
    let output = stage.world.operator().run(&verify).await.unwrap();
    assert_eq!(output.code, 1, "{}", output.stderr);
    let told = format!("1 of 4096 leaves of {} are not what was certified, the first is leaf 1234", disk.disk_id);
    assert!(output.stderr.contains(&told), "{}", output.stderr);

    // It is healed by the next replication, and trusted again.
    stage.replicated().await;
    stage.command(&verify).await;
}
