//! The plain way: everything once, then only what changed.

use lab::world::Roles;

use super::answers;
use super::stage::{Stage, VM, change_ids, modes, sum};

/// What an incremental may read and send of what changed, in per cent.
const MOST_OF_CHANGED_PERCENT: u64 = 110;

#[tokio::test(flavor = "multi_thread")]
async fn a_vm_is_copied_once_and_then_only_what_changed() {
    let stage = Stage::ready(Roles::Together).await;
    let first = stage.replicated().await;
    assert_eq!(modes(&first), ["full", "full"]);

    let changed = stage.guest_writes(40, 7).await;
    let second = stage.replicated().await;
    assert_eq!(modes(&second), ["incremental", "incremental"]);
    for counter in ["bytes_read", "bytes_sent"] {
        let bytes = sum(&second, counter);
        assert!(
            bytes >= changed && bytes * 100 <= changed * MOST_OF_CHANGED_PERCENT,
            "{counter}: {bytes} of {changed}"
        );
    }
    assert_ne!(change_ids(&first), change_ids(&second));

    let history = stage.command(&["vm", "show", VM]).await["cbt_history"].as_array().unwrap().clone();
    for (before, after) in change_ids(&first).iter().zip(change_ids(&second)) {
        let row = history.iter().find(|row| row["change_id"] == after.as_str()).unwrap();
        assert_eq!(row["previous_change_id"], before.as_str());
        assert_eq!(row["sync_success"], true);
    }

    // With nothing written there is nothing to read or send.
    let third = stage.replicated().await;
    assert_eq!((sum(&third, "bytes_read"), sum(&third, "bytes_sent")), (0, 0));

    answers::have_the_promised_fields(&stage, 3).await;
    stage.world.api("/api/v1/vm-contexts/nobody").await.expect_err("an unknown VM");
}
