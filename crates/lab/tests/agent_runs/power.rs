//! The source's power through the agent: only of the VM that is meant, and repeatable.

use std::time::Duration;

use api::vma::{PowerOffRequest, PowerOnRequest, ShutdownKind};
use lab::vcenter::{Effect, FaultRule, Tools, VmSpec};
use model::FailureKind;

use crate::site::{Site, VM, soon, web_server};

/// How often the VM is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// How long a slow power task takes.
const SLOW_TASK: Duration = Duration::from_millis(200);

struct Source {
    moref: String,
    instance_uuid: String,
}

impl Source {
    async fn of(site: &Site) -> Self {
        let vm = site.vm().await;
        Self { moref: vm.moref, instance_uuid: vm.instance_uuid }
    }

    fn off(&self, site: &Site, how: ShutdownKind) -> PowerOffRequest {
        PowerOffRequest { vcenter: site.vcenter(), instance_uuid: self.instance_uuid.clone(), how }
    }

    fn on(&self, site: &Site) -> PowerOnRequest {
        PowerOnRequest { vcenter: site.vcenter(), instance_uuid: self.instance_uuid.clone() }
    }
}

async fn until_off(site: &Site) {
    let watched = async {
        while site.vm().await.power_state != "poweredOff" {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    };
    soon("the VM to be off", watched).await;
}

fn calls(site: &Site, method: &str) -> u64 {
    site.sim.calls().get(method).copied().unwrap_or_default()
}

fn once(method: &str, what: Effect) -> FaultRule {
    FaultRule { method: method.to_owned(), what, count: 1, skip: 0 }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_guest_is_asked_and_the_answer_does_not_wait_for_it() {
    let site = Site::start().await;
    let source = Source::of(&site).await;
    site.sim.inject(once("ShutdownGuest", Effect::IgnoredByGuest));
    let asked = source.off(&site, ShutdownKind::GuestShutdown);
    let deaf = site.client.power_off(&source.moref, &asked).await.unwrap();
    assert_eq!((deaf.power_state.as_str(), deaf.is_off()), ("poweredOn", false), "the guest did not obey");

    site.client.power_off(&source.moref, &asked).await.unwrap();
    until_off(&site).await;
    let again = site.client.power_off(&source.moref, &asked).await.unwrap();
    assert!(again.is_off(), "{again:?}");
    assert_eq!((calls(&site, "ShutdownGuest"), calls(&site, "PowerOffVM_Task")), (2, 0), "nothing was forced");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_power_is_cut_and_given_back_and_both_may_be_repeated() {
    let site = Site::start().await;
    let source = Source::of(&site).await;
    site.sim.set_task_delay(SLOW_TASK);
    for _ in 0..2 {
        let off = site.client.power_off(&source.moref, &source.off(&site, ShutdownKind::Hard)).await.unwrap();
        assert!(off.is_off(), "the answer waits for the task: {off:?}");
    }
    for _ in 0..2 {
        let on = site.client.power_on(&source.moref, &source.on(&site)).await.unwrap();
        assert_eq!(on.power_state, "poweredOn");
    }
    assert_eq!((calls(&site, "PowerOffVM_Task"), calls(&site, "PowerOnVM_Task")), (1, 1));
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_without_tools_is_told_with_what_to_do() {
    let site = Site::with(VmSpec { tools: Tools::Stopped, ..web_server() }).await;
    let source = Source::of(&site).await;
    let asked = source.off(&site, ShutdownKind::GuestShutdown);
    let problem = site.client.power_off(&source.moref, &asked).await.unwrap_err().into_problem();
    assert_eq!((problem.kind, problem.retryable), (FailureKind::Conflict, false), "{problem:?}");
    assert!(problem.detail.contains("VMware Tools"), "{problem:?}");
    assert!(problem.remedy.unwrap().contains("operator's word"));
    assert_eq!(site.vm().await.power_state, "poweredOn");
    let cut = site.client.power_off(&source.moref, &source.off(&site, ShutdownKind::Hard)).await.unwrap();
    assert!(cut.is_off(), "the word was given");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_vm_under_the_same_reference_keeps_its_power() {
    let site = Site::start().await;
    let source = Source::of(&site).await;
    let meant = Source { instance_uuid: "503c0000-0000-0000-0000-000000000000".to_owned(), ..source };
    for how in [ShutdownKind::GuestShutdown, ShutdownKind::Hard] {
        let refused = site.client.power_off(&meant.moref, &meant.off(&site, how)).await.unwrap_err();
        assert_eq!(refused.kind(), FailureKind::Conflict, "{refused}");
    }
    site.sim.set_power(VM, false).unwrap();
    let refused = site.client.power_on(&meant.moref, &meant.on(&site)).await.unwrap_err().into_problem();
    assert!(refused.kind == FailureKind::Conflict && refused.remedy.is_some(), "{refused:?}");
    let gone = site.client.power_on("vm-999", &meant.on(&site)).await.unwrap_err();
    assert_eq!(gone.kind(), FailureKind::NotFound, "{gone}");
    for method in ["ShutdownGuest", "PowerOffVM_Task", "PowerOnVM_Task"] {
        assert_eq!(calls(&site, method), 0, "{method}");
    }
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_task_is_a_failure_and_somebody_elses_work_is_not() {
    let site = Site::start().await;
    let source = Source::of(&site).await;
    let hard = source.off(&site, ShutdownKind::Hard);
    let full = Effect::TaskFault { fault: "InsufficientResourcesFault".to_owned(), message: String::new() };
    site.sim.inject(once("PowerOffVM_Task", full));
    let failed = site.client.power_off(&source.moref, &hard).await.unwrap_err();
    assert_eq!(failed.kind(), FailureKind::Exhausted, "{failed}");

    // Held between our look and our task, and switched off by somebody else meanwhile.
    site.sim.inject(once("PowerOffVM_Task", Effect::Hold));
    let switching = async { site.client.power_off(&source.moref, &hard).await.unwrap() };
    let meanwhile = async {
        site.until_called("PowerOffVM_Task", 2).await;
        site.sim.set_power(VM, false).unwrap();
        site.sim.clear_injections();
    };
    let (off, ()) = tokio::join!(switching, meanwhile);
    assert!(off.is_off());
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_gives_up_changes_nothing_of_it() {
    let site = Site::start().await;
    let source = Source::of(&site).await;
    let hard = source.off(&site, ShutdownKind::Hard);
    site.sim.set_task_delay(SLOW_TASK);
    let asking = site.client.power_off(&source.moref, &hard);
    tokio::select! {
        early = asking => panic!("the task was not slow: {early:?}"),
        () = site.until_called("PowerOffVM_Task", 1) => {}
    }
    until_off(&site).await;
    soon("the end of the session", async {
        while site.sim.session_count() > 0 {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    })
    .await;
    site.stop().await;
}
