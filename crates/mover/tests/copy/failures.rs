//! What ends a copy, and how it is told: a full volume, a lost link, a stop, a volume that does not fit.

use std::sync::Arc;
use std::time::Duration;

use api::vma::SyncMode;
use block::{BlockDevice, Fault, FaultDevice, FaultPlan, MemoryDevice};
use model::FailureKind;
use mover::MoverError;
use mover::target::Target;
use tokio_util::sync::CancellationToken;

use crate::replica::{EXPORT, Setup, Trapped, connection, cut, noise, target};

/// Longest a copy may take to end after it was told to.
const SOON: Duration = Duration::from_secs(20);

fn nothing() -> std::future::Ready<()> {
    std::future::ready(())
}

#[tokio::test]
async fn a_full_volume_is_told_as_such() {
    let source = noise(6 << 20, 1);
    let inner = Arc::new(MemoryDevice::new(source.len() as u64));
    let plan = FaultPlan { write_budget_bytes: Some((3 << 20, Fault::Full)), ..FaultPlan::default() };
    let device: Arc<dyn BlockDevice> = Arc::new(FaultDevice::new(inner, plan));
    let setup = Setup::new(Trapped::new(source, usize::MAX, nothing), SyncMode::Full);
    let error = setup.run(&device).await.unwrap_err();
    assert_eq!(error.kind(), FailureKind::Exhausted, "{error:?}");
    assert!(!error.kind().is_transient());
    assert!(error.remedy().is_some_and(|remedy| remedy.contains("room")), "{:?}", error.remedy());
}

#[tokio::test]
async fn a_lost_link_may_be_tried_again() {
    let source = noise(8 << 20, 1);
    let device: Arc<dyn BlockDevice> = Arc::new(MemoryDevice::new(source.len() as u64));
    let lane = connection(&device).await;
    let link = cut(&lane);
    let reader = Trapped::new(source, 3, move || {
        link.cut();
        nothing()
    });
    let target = Target::new(vec![lane], EXPORT, device.size_bytes()).unwrap();
    let copy = Setup::new(reader, SyncMode::Full).copy_into(target);
    let error = tokio::time::timeout(SOON, copy.run(&CancellationToken::new())).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), FailureKind::Unavailable, "{error:?}");
}

#[tokio::test]
async fn a_stop_ends_a_copy_whose_source_hangs() {
    let source = noise(8 << 20, 1);
    let device: Arc<dyn BlockDevice> = Arc::new(MemoryDevice::new(source.len() as u64));
    let cancel = CancellationToken::new();
    let told = cancel.clone();
    let reader = Trapped::new(source, 2, move || {
        told.cancel();
        std::future::pending()
    });
    let setup = Setup::new(reader, SyncMode::Full);
    let copy = setup.copy_into(target(&device, device.size_bytes()).await);
    let error = tokio::time::timeout(SOON, copy.run(&cancel)).await.unwrap().unwrap_err();
    assert!(matches!(error, MoverError::Cancelled), "{error:?}");
}

#[tokio::test]
async fn an_error_of_one_worker_stops_the_others() {
    let source = noise(8 << 20, 1);
    let inner = Arc::new(MemoryDevice::new(source.len() as u64));
    let plan = FaultPlan { write_budget_bytes: Some((0, Fault::Io)), ..FaultPlan::default() };
    let device: Arc<dyn BlockDevice> = Arc::new(FaultDevice::new(inner, plan));
    // The second worker's first read never comes back.
    let setup = Setup::new(Trapped::new(source, 1, std::future::pending), SyncMode::Full);
    let error = tokio::time::timeout(SOON, setup.run(&device)).await.unwrap().unwrap_err();
    assert!(matches!(error, MoverError::WriteTarget { .. }), "{error:?}");
}

#[tokio::test]
async fn a_volume_that_does_not_fit_is_refused_before_a_byte_is_written() {
    let small: Arc<dyn BlockDevice> = Arc::new(MemoryDevice::new(1 << 20));
    let refused = Target::new(vec![connection(&small).await], EXPORT, (1 << 20) + 1).err().unwrap();
    assert!(matches!(refused, MoverError::TargetTooSmall { size_bytes: 0x10_0000, capacity_bytes: 0x10_0001, .. }));
    assert!(refused.remedy().is_some());

    let read_only: Arc<dyn BlockDevice> = Arc::new(MemoryDevice::new(1 << 20).read_only());
    let refused = Target::new(vec![connection(&read_only).await], EXPORT, 1 << 20).err().unwrap();
    assert!(matches!(refused, MoverError::TargetReadOnly { .. }));

    let other: Arc<dyn BlockDevice> = Arc::new(MemoryDevice::new(2 << 20));
    let both = vec![connection(&small).await, connection(&other).await];
    assert!(matches!(Target::new(both, EXPORT, 1 << 20), Err(MoverError::SizesDiffer { .. })));
    assert!(matches!(Target::new(Vec::new(), EXPORT, 1), Err(MoverError::NoConnection { .. })));
}
