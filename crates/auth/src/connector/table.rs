//! Every authentication method and its fields.

use super::kind::{Field, Form, Kind, Method, Need};

const fn required(name: &'static str, form: Form, help: &'static str) -> Field {
    Field { name, help, need: Need::Required, kind: Kind::Plain, form, default: None }
}

const fn optional(name: &'static str, form: Form, help: &'static str) -> Field {
    Field { name, help, need: Need::Optional, kind: Kind::Plain, form, default: None }
}

impl Field {
    const fn secret(self) -> Self {
        Self { kind: Kind::Secret, ..self }
    }

    const fn or(self, default: &'static str) -> Self {
        Self { default: Some(default), ..self }
    }
}

pub(super) const DOCKER: &[Method] = &[Method {
    name: "password",
    summary: "A user name and a password or access token.",
    fields: &[
        required("username", Form::Username, "The user name"),
        required("password", Form::Text, "The password or access token").secret(),
        optional(
            "registry",
            Form::Host,
            "The registry's host, such as ghcr.io; without it, the connector serves the registry that it is connected to",
        ),
    ],
}];

const PROJECT: Field = optional(
    "project_id",
    Form::Text,
    "The project whose registries are listed; a key's own project by default",
);
const ARTIFACT_REGISTRY: Field =
    optional("artifact_registry_endpoint", Form::Url, "Where the Artifact Registry API is served")
        .or("https://artifactregistry.googleapis.com");

pub(super) const GCP: &[Method] = &[
    Method {
        name: "service-account",
        summary: "A service account's key file; it signs requests for access tokens that are good for an hour.",
        fields: &[
            required(
                "service_account_json",
                Form::ServiceAccountKey,
                "The key file's content (@/path/to/key.json)",
            )
            .secret(),
            PROJECT,
            ARTIFACT_REGISTRY,
        ],
    },
    Method {
        name: "implicit",
        summary: "What this machine has: GOOGLE_APPLICATION_CREDENTIALS, the file that `gcloud auth application-default \
                  login` leaves, or the metadata server.",
        fields: &[PROJECT, ARTIFACT_REGISTRY],
    },
    Method {
        name: "oauth2-token",
        summary: "An access token that you have; it is not renewed.",
        fields: &[
            required("token", Form::Text, "The access token").secret(),
            optional("service_account_email", Form::Email, "Whose token it is"),
            PROJECT,
            ARTIFACT_REGISTRY,
        ],
    },
    Method {
        name: "impersonation",
        summary: "Tokens of another service account, which the key's (or this machine's) identity may impersonate.",
        fields: &[
            required(
                "target_principal",
                Form::Email,
                "The email address of the service account to impersonate",
            ),
            optional(
                "service_account_json",
                Form::ServiceAccountKey,
                "The key of the account that impersonates; without it, what this machine has",
            )
            .secret(),
            optional("delegates", Form::List, "The accounts in between, in order, separated by commas"),
            optional("lifetime_seconds", Form::Seconds(600, 43_200), "How long a token is good").or("3600"),
            optional(
                "iam_credentials_endpoint",
                Form::Url,
                "Where the IAM Service Account Credentials API is served",
            )
            .or("https://iamcredentials.googleapis.com"),
            PROJECT,
            ARTIFACT_REGISTRY,
        ],
    },
    Method {
        name: "external-account",
        summary: "Workload identity federation: another provider's token is exchanged for one of Google's.",
        fields: &[
            required(
                "external_account_json",
                Form::ExternalAccount,
                "The credential configuration file's content",
            )
            .secret(),
            PROJECT,
            ARTIFACT_REGISTRY,
        ],
    },
];

const AUTHORITY: Field = optional(
    "authority",
    Form::Url,
    "The Entra authority; by default that of the registry's cloud, such as https://login.microsoftonline.com",
);
const SUBSCRIPTION: Field =
    optional("subscription_id", Form::Guid, "The subscription whose registries are listed");
const RESOURCE_MANAGER: Field = optional(
    "resource_manager",
    Form::Url,
    "Where Azure Resource Manager is served; by default that of the cloud, such as https://management.azure.com",
);
const CLOUD: Field = optional(
    "cloud",
    Form::OneOf(&["public", "china", "us-government"]),
    "public, china or us-government; read from the registry's host where there is one",
)
.or("public");

pub(super) const AZURE: &[Method] = &[
    Method {
        name: "service-principal",
        summary: "An app registration's client secret; it is exchanged for tokens that are good for hours.",
        fields: &[
            required("tenant_id", Form::Tenant, "The tenant (directory) of the app registration"),
            required("client_id", Form::Guid, "The application (client) ID"),
            required("client_secret", Form::Text, "The client secret's value").secret(),
            CLOUD,
            SUBSCRIPTION,
            AUTHORITY,
            RESOURCE_MANAGER,
        ],
    },
    Method {
        name: "implicit",
        summary: "What this machine has: AZURE_CLIENT_ID and its fellows in the environment, workload identity, or a \
                  managed identity.",
        fields: &[
            optional("client_id", Form::Guid, "The client ID of a user-assigned managed identity"),
            CLOUD,
            SUBSCRIPTION,
            AUTHORITY,
            RESOURCE_MANAGER,
        ],
    },
    Method {
        name: "access-token",
        summary: "An Entra access token that you have; it is not renewed.",
        fields: &[
            required("token", Form::Text, "The access token for Azure Resource Manager").secret(),
            optional("tenant_id", Form::Tenant, "The tenant; read from the token by default"),
            CLOUD,
            SUBSCRIPTION,
            RESOURCE_MANAGER,
        ],
    },
    Method {
        name: "workload-identity",
        summary: "A federated token from a file, as Kubernetes with Entra Workload ID or a CI system provides it.",
        fields: &[
            optional("tenant_id", Form::Tenant, "The tenant; AZURE_TENANT_ID by default"),
            optional("client_id", Form::Guid, "The application (client) ID; AZURE_CLIENT_ID by default"),
            optional(
                "federated_token_file",
                Form::Path,
                "The file that has the token; AZURE_FEDERATED_TOKEN_FILE by default",
            ),
            CLOUD,
            SUBSCRIPTION,
            AUTHORITY,
            RESOURCE_MANAGER,
        ],
    },
];

const REGION: Field = optional("region", Form::Region, "The region; by default that of the registry's host");
const ENDPOINT: Field =
    optional("endpoint_url", Form::Url, "Where the APIs are served, in place of AWS's own endpoints");
const KEY_ID: Field = required("aws_access_key_id", Form::Text, "The access key's ID");
const KEY: Field = required("aws_secret_access_key", Form::Text, "The secret access key").secret();
const POLICY: Field = optional(
    "policy",
    Form::Json,
    "A session policy (JSON) that limits what the session may do; without it, what container registries need",
);

pub(super) const AWS: &[Method] = &[
    Method {
        name: "secret-key",
        summary: "The access key of an IAM user.",
        fields: &[KEY_ID, KEY, REGION, ENDPOINT],
    },
    Method {
        name: "implicit",
        summary: "What this machine has: environment, shared configuration files (profiles, SSO), web identity, \
                  container or instance role.",
        fields: &[
            optional(
                "profile_name",
                Form::Text,
                "The profile of the shared configuration files; AWS_PROFILE by default",
            ),
            optional("role_arn", Form::RoleArn, "A role to assume with what this machine has"),
            REGION,
            ENDPOINT,
        ],
    },
    Method {
        name: "sts-token",
        summary: "Temporary credentials that you have; they are not renewed.",
        fields: &[
            KEY_ID,
            KEY,
            required("aws_session_token", Form::Text, "The session token").secret(),
            REGION,
            ENDPOINT,
        ],
    },
    Method {
        name: "iam-role",
        summary: "An IAM role, assumed with an access key (sts:AssumeRole).",
        fields: &[
            KEY_ID,
            KEY,
            required("role_arn", Form::RoleArn, "The role to assume"),
            optional("external_id", Form::Text, "The external ID that the role's trust policy asks for"),
            optional("session_name", Form::SessionName, "The session's name in audit logs").or("longshore"),
            optional("duration_seconds", Form::Seconds(900, 43_200), "How long a session is good").or("3600"),
            POLICY,
            REGION,
            ENDPOINT,
        ],
    },
    Method {
        name: "session-token",
        summary: "A temporary session of an IAM user (sts:GetSessionToken).",
        fields: &[
            KEY_ID,
            KEY,
            optional("duration_seconds", Form::Seconds(900, 129_600), "How long a session is good")
                .or("43200"),
            REGION,
            ENDPOINT,
        ],
    },
    Method {
        name: "federation-token",
        summary: "A temporary session with limited permissions (sts:GetFederationToken).",
        fields: &[
            KEY_ID,
            KEY,
            optional("session_name", Form::SessionName, "The session's name in audit logs").or("longshore"),
            optional("duration_seconds", Form::Seconds(900, 129_600), "How long a session is good")
                .or("43200"),
            POLICY,
            REGION,
            ENDPOINT,
        ],
    },
];
