//! What a refusal must look like on the command line, and that it changed nothing.

use lab::world::{CommandOutput, World};
use serde_json::{Value, json};

/// The problem on standard error; the exit code, the kind and a remedy are checked.
pub fn refused(output: &CommandOutput, kind: &str, exit_code: i32) -> Value {
    let problem = problem_of(output);
    assert_eq!((output.code, problem["kind"].as_str()), (exit_code, Some(kind)), "{output:?}");
    for field in ["detail", "remedy", "title", "type"] {
        assert!(problem[field].as_str().is_some_and(|text| !text.is_empty()), "no {field}: {problem:#}");
    }
    problem
}

/// The JSON object at the end of standard error, behind any messages.
fn problem_of(output: &CommandOutput) -> Value {
    let text = output.stderr.as_str();
    let start = if text.starts_with("{\n") { Some(0) } else { text.rfind("\n{\n").map(|at| at + 1) };
    start.and_then(|start| serde_json::from_str(&text[start..]).ok()).unwrap_or(Value::Null)
}

/// Everything a refused request must leave alone: the cloud's volumes and attachments, the source's vm_snapshots and
/// change tracking, VMs, jobs, targets and agents.
pub async fn everything(world: &World) -> Value {
    let operator = world.operator();
    let mut lists = Vec::new();
    for arguments in [["vm", "list"], ["target", "list"], ["agent", "list"], ["job", "list"]] {
        let mut list = operator.run(&arguments).await.unwrap().json().unwrap();
        forget_clocks(&mut list);
        lists.push(list);
    }
    let cloud = world.cloudstack_state().await.unwrap();
    let counts: Vec<&Value> = ["volumes", "vms", "attached", "pending_jobs"].iter().map(|name| &cloud[name]).collect();
    json!({ "lists": lists, "cloud": counts, "source": world.source_vm().await.unwrap() })
}

/// Agents are heard of all the time; that is no change.
fn forget_clocks(list: &mut Value) {
    for item in list["items"].as_array_mut().into_iter().flatten() {
        item["last_seen_at"] = Value::Null;
    }
}

/// Both texts stand somewhere in what the operator reads.
pub fn says(problem: &Value, texts: &[&str]) {
    let read: String = ["detail", "evidence", "cause"].iter().filter_map(|field| problem[field].as_str()).collect();
    for text in texts {
        assert!(read.contains(text), "{text:?} is not in {problem:#}");
    }
}
