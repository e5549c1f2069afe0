//! What the processes of a step may do.
//!
//! Many namespaces admit only pods of the Pod Security Standard "restricted", which wants every container to give up what no process
//! has that is not root's anyway. So a step that does not run as root gives it up by itself; one that runs as root stays as it is.

use k8s_openapi::api::core::v1::{Capabilities, SeccompProfile, SecurityContext};

/// The security context of a step's container: the settings' own, and what follows from the user that it runs as. `user` is the
/// image's, where that is known.
pub(crate) fn context(own: Option<SecurityContext>, user: Option<&str>) -> Option<SecurityContext> {
    let mut context = own.clone().unwrap_or_default();
    let of_image = user.and_then(|user| user.split(':').next()?.parse::<i64>().ok());
    // A user that is known by name only may be root to the kubelet, who compares numbers.
    let is_root = context.run_as_user.or(of_image).is_none_or(|number| number == 0);
    let adds = context.capabilities.as_ref().and_then(|changes| changes.add.as_ref());
    let wants_more = context.privileged == Some(true) || adds.is_some_and(|names| !names.is_empty());
    if (is_root && context.run_as_non_root != Some(true)) || wants_more {
        return own;
    }
    context.run_as_non_root.get_or_insert(true);
    context.allow_privilege_escalation.get_or_insert(false);
    let changes: &mut Capabilities = context.capabilities.get_or_insert_default();
    changes.drop.get_or_insert_with(|| vec!["ALL".to_owned()]);
    context.seccomp_profile.get_or_insert_with(|| SeccompProfile {
        type_: "RuntimeDefault".to_owned(),
        localhost_profile: None,
    });
    Some(context)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn made(own: Value, user: Option<&str>) -> Value {
        let own = (!own.is_null()).then(|| serde_json::from_value(own).unwrap());
        serde_json::to_value(context(own, user)).unwrap()
    }

    #[test]
    fn a_step_that_does_not_run_as_root_is_admitted_where_pods_are_restricted() {
        let restricted = json!({"runAsNonRoot": true, "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"}});
        assert_eq!(made(Value::Null, Some("1000:1000")), restricted);
        assert_eq!(made(json!({"runAsNonRoot": true}), None), restricted);
        assert_eq!(made(json!({"runAsUser": 7}), Some("0"))["runAsNonRoot"], true);
    }

    #[test]
    fn root_keeps_what_it_has_and_so_does_who_asks_for_more() {
        for user in [None, Some("0"), Some("root"), Some("somebody")] {
            assert_eq!(made(Value::Null, user), Value::Null);
        }
        assert_eq!(made(json!({"runAsUser": 0}), Some("1000")), json!({"runAsUser": 0}));
        let more = json!({"capabilities": {"add": ["SYS_ADMIN"]}});
        assert_eq!(made(more.clone(), Some("1000")), more);
        let escalates = made(json!({"allowPrivilegeEscalation": true}), Some("1000"));
        assert_eq!(escalates["allowPrivilegeEscalation"], true);
    }
}
