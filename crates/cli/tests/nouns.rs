//! What the commands on container registries, connectors and stacks print, and how they fail.
#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

use std::path::Path;

use assert_cmd::Command;

/// A user's machine: nothing of the real one is read or changed.
struct Machine(tempfile::TempDir);

impl Machine {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn run(&self, line: &str) -> Command {
        let mut command = Command::cargo_bin("longshore").unwrap();
        command.env_clear().env("LONGSHORE_HOME", self.0.path().join("longshore")).env("HOME", self.0.path());
        command.args(line.split_whitespace());
        command
    }

    /// What a command prints that succeeds.
    fn done(&self, line: &str) -> String {
        let output = self.run(line).output().unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        text(output.stdout)
    }

    /// How a command is refused: the exit code, and what is said.
    fn refused(&self, line: &str) -> String {
        let output = self.run(line).output().unwrap();
        assert!(output.stdout.is_empty(), "{line}: {}", String::from_utf8_lossy(&output.stdout));
        format!("{} {}", output.status.code().unwrap(), text(output.stderr))
    }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

/// A machine with a registry of each of two flavors, a connector and a stack.
fn furnished() -> Machine {
    let machine = Machine::new();
    machine.done("container-registry register hub --flavor=dockerhub --uri=docker.io/myusername");
    machine.done(
        "container-registry register ecr --flavor=aws --uri=123456789012.dkr.ecr.us-east-1.amazonaws.com \
         --immutable_tags=yes --default-repository team/app",
    );
    machine.done("service-connector register hub_connector --type docker --username=me --password=hunter2");
    machine.done("container-registry connect hub --connector hub_connector --no-verify");
    machine.done("stack register prod -o local_container -c ecr --set");
    machine
}

/// Times differ each time.
fn timeless(text: &str) -> String {
    let time =
        |word: &str| word.contains('T') && word.trim_matches(['"', ',']).ends_with('Z') && word.contains(':');
    text.lines()
        .map(|line| {
            line.split(' ').map(|word| if time(word) { "TIME" } else { word }).collect::<Vec<_>>().join(" ")
        })
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn help_is_complete() {
    let machine = Machine::new();
    for command in [
        "container-registry",
        "container-registry register",
        "container-registry connect",
        "service-connector",
        "service-connector register",
        "service-connector login",
        "stack",
        "stack register",
        "orchestrator",
        "orchestrator register",
        "integration",
    ] {
        insta::assert_snapshot!(command.replace(' ', "_"), machine.done(&format!("{command} --help")));
    }
}

#[test]
fn lists_and_descriptions_for_people() {
    let machine = furnished();
    let commands = [
        "container-registry list",
        "container-registry describe ecr",
        "container-registry describe hub",
        "container-registry describe embedded",
        "container-registry flavor list",
        "orchestrator list",
        "orchestrator flavor list",
        "image-builder list",
        "artifact-store describe local",
        "service-connector list",
        "service-connector describe hub_connector",
        "service-connector list-types",
        "service-connector describe-type docker",
        "stack list",
        "stack describe",
        "stack get",
        "integration list",
    ];
    let shown =
        commands.map(|command| format!("$ longshore {command}\n{}\n", machine.done(command))).concat();
    let too_wide = shown.lines().find(|line| line.chars().count() > 80);
    assert_eq!(too_wide, None);
    insta::assert_snapshot!(timeless(&shown));
}

#[test]
fn lists_and_descriptions_for_programs() {
    let machine = furnished();
    let commands = [
        "container-registry describe ecr -o json",
        "container-registry list --output yaml",
        "service-connector describe hub_connector --output=yaml",
        "service-connector list -o json",
        "stack describe -o yaml",
        "stack list -o json",
    ];
    let shown =
        commands.map(|command| format!("$ longshore {command}\n{}\n", machine.done(command))).concat();
    assert!(!shown.contains("hunter2"));
    insta::assert_snapshot!(timeless(&shown));
}

#[test]
fn every_list_and_description_has_every_format() {
    let machine = furnished();
    for noun in [
        "container-registry",
        "orchestrator",
        "image-builder",
        "artifact-store",
        "service-connector",
        "stack",
    ] {
        let listed: serde_json::Value =
            serde_json::from_str(&machine.done(&format!("{noun} list -o json"))).unwrap();
        for entry in listed.as_array().unwrap() {
            let name = entry["name"].as_str().unwrap();
            let described = machine.done(&format!("{noun} describe {name} --output json"));
            assert_eq!(&serde_json::from_str::<serde_json::Value>(&described).unwrap(), entry);
            assert!(machine.done(&format!("{noun} describe {name} -o yaml")).starts_with("name: "));
            assert!(machine.done(&format!("{noun} describe {name}")).starts_with("name "));
        }
    }
}

#[test]
fn mistakes_are_answered_with_the_remedy() {
    let machine = furnished();
    let commands = [
        "container-registry register x --flavor=gcp --uri=docker.io/foo",
        "container-registry register x --flavor=default --uri=https://gcr.io/p",
        "container-registry register x --flavor=default",
        "container-registry register x --flavor=quay --uri=quay.io/me",
        "container-registry register x --flavor=default --urii=gcr.io/p",
        "container-registry register x --flavor=default --uri=gcr.io/p --kms_key=k",
        "container-registry register x --flavor=default --uri=gcr.io/p --connector hub_conector",
        "container-registry register x --flavor=gcp --uri=gcr.io/p --no-verify",
        "container-registry register x/y --flavor=default --uri=gcr.io/p",
        "container-registry register hub --flavor=default --uri=gcr.io/p",
        "container-registry update hub",
        "container-registry update hub --uri=gcr.io/p",
        "container-registry describe huub",
        "container-registry delete ecr",
        "container-registry delete embedded",
        "container-registry rename hub ecr",
        "orchestrator register k8s --flavor=nomad",
        "service-connector register x --type kubernetes",
        "service-connector register x --type aws",
        "service-connector register x --type docker --username=me",
        "service-connector register x --type docker --username=me --password=s --region=eu-west-1",
        "service-connector register x --type docker --username=- --password=-",
        "service-connector register x --type gcp --auth_method=service-account --service_account_json={}",
        "service-connector register hub_connector --type docker --username=me --password=s",
        "service-connector update hub_connector",
        "service-connector delete hub_connector",
        "service-connector login hub_connector --registry",
        "stack register x -o local_container",
        "stack register x -o local_container -c nope",
        "stack register prod -o local",
        "stack update default -o local",
        "stack delete prod",
        "stack set nope",
        "integration install gpc",
    ];
    let said =
        commands.map(|command| format!("$ longshore {command}\n{}\n", machine.refused(command))).concat();
    insta::assert_snapshot!(said);
}

#[test]
fn options_are_spelled_either_way() {
    let machine = Machine::new();
    for (name, options) in [
        ("a", "--flavor aws --uri 123456789012.dkr.ecr.us-east-1.amazonaws.com --scan_on_push true"),
        ("b", "--flavor=aws --uri=123456789012.dkr.ecr.us-east-1.amazonaws.com --scan-on-push=true"),
    ] {
        machine.done(&format!("container-registry register {name} {options}"));
        assert!(
            machine
                .done(&format!("container-registry describe {name}"))
                .contains("scan_on_push         true")
        );
    }
}

#[test]
fn a_run_without_a_stack_is_on_the_active_one() {
    let machine = Machine::new();
    let spec = machine.0.path().join("spec.json");
    std::fs::write(
        &spec,
        r#"{"version": 2, "pipeline": {"name": "p"}, "source_root": "/", "sdk_version": "0.1.0",
        "python": {"executable": "/usr/bin/python3", "version": "3.11.2"},
        "steps": [{"name": "s", "source": {"module": "m", "attribute": "s"}, "outputs": []}]}"#,
    )
    .unwrap();
    machine.done("stack register here -o local --set");
    // The local orchestrator's plan is JSON, and needs no image.
    let planned = machine.done(&format!("run --dry-run --spec {}", path(&spec)));
    serde_json::from_str::<serde_json::Value>(&planned).unwrap();
    let said = machine.refused(&format!("run --dry-run --stack nope --spec {}", path(&spec)));
    assert!(
        said.starts_with("2 error: there is no stack named `nope`; there are: default, local, here"),
        "{said}"
    );
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}
