//! A registry that misbehaves on demand.
//!
//! It keeps to the OCI distribution specification where no [`Fault`] says otherwise, and is strict: digests, ranges and
//! locations must be right. It shares no code with the registry that longshore ships, and it writes HTTP by hand, since
//! no server library lets a server misbehave enough.

mod answer;
mod connection;
mod content;
mod fault;
mod message;
mod operation;
mod schedule;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use http::header;
use longshore_oci::{Digest, MediaType};
use serde::Deserialize;
use tokio::net::TcpListener;

pub use fault::{Fault, RangeLie, Rule, WrongLocation};
pub use operation::Operation;
pub use schedule::Chance;

use crate::{Authority, Serving, TokenServer};
use content::{Content, Manifest};
use message::{Answer, Head};
use operation::Target;
use schedule::Schedule;

/// What a registry is like when nothing goes wrong: registries differ.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HostileConfig {
    /// What goes wrong from the beginning.
    pub rules: Vec<Rule>,
    /// Whose tokens are wanted.
    #[serde(skip)]
    pub tokens: Option<TokenAuth>,
    /// Whether a manifest is taken whose blobs are missing.
    pub missing_blobs: MissingBlobs,
    /// What is mounted.
    pub mounts: Mounts,
    /// Whether there is a referrers API.
    pub referrers: Referrers,
    /// Whether a tag may be given to another manifest.
    pub tags: Tags,
    /// Whether a blob may come with the `POST` that begins its upload.
    pub single_post: SinglePost,
}

/// Whose tokens are wanted.
#[derive(Clone, Debug)]
pub struct TokenAuth {
    realm: String,
    authority: Arc<Authority>,
}

impl TokenAuth {
    /// Those of that service, which must outlive the registry.
    pub fn of(server: &TokenServer) -> Self {
        Self { realm: server.realm(), authority: server.authority() }
    }
}

/// Whether a manifest is taken whose blobs are missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MissingBlobs {
    /// It is not.
    #[default]
    Refused,
    /// It is: nothing but the client keeps an incomplete image from getting a tag.
    Taken,
}

/// What is mounted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mounts {
    /// A blob of the repository that the request names.
    #[default]
    Named,
    /// Also a blob of any repository, if the request names none.
    Anonymous,
    /// Nothing.
    Never,
}

/// Whether there is a referrers API.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Referrers {
    /// There is.
    #[default]
    Served,
    /// 404.
    Missing,
}

/// Whether a tag may be given to another manifest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tags {
    /// It may.
    #[default]
    Movable,
    /// 400, as from Amazon's registry.
    Immutable,
}

/// Whether a blob may come with the `POST` that begins its upload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SinglePost {
    /// The body is ignored, and the upload begun (the distribution project's registry).
    #[default]
    Ignored,
    /// It may.
    Supported,
}

/// Which of its two addresses a request came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The registry's own.
    Registry,
    /// The other one, where no credentials are wanted or welcome: storage that the registry sends its clients to.
    Elsewhere,
}

/// A request, and what became of it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Where it came to.
    pub side: Side,
    /// The method.
    pub method: http::Method,
    /// The path.
    pub path: String,
    /// The query.
    pub query: Option<String>,
    /// What it asked for, if that is known.
    pub operation: Option<Operation>,
    /// The scheme of the credentials that came with it: `Bearer`.
    pub authorization: Option<String>,
    /// The length of its body, where the head says it.
    pub length: Option<u64>,
    /// Where the body belongs, if the head says it.
    pub content_range: Option<String>,
    /// What part of a blob it wants.
    pub range: Option<String>,
    /// What went wrong.
    pub fault: Option<Fault>,
    /// The status of the answer, if there was one.
    pub status: Option<u16>,
}

impl Seen {
    fn new(
        head: &Head,
        operation: Option<Operation>,
        fault: Option<Fault>,
        side: Side,
        status: Option<u16>,
    ) -> Self {
        let authorization = head.header(header::AUTHORIZATION).and_then(|value| value.split(' ').next());
        Self {
            side,
            method: head.method.clone(),
            path: head.path.clone(),
            query: head.query.clone(),
            operation,
            authorization: authorization.map(str::to_owned),
            length: head.length(),
            content_range: head.header(header::CONTENT_RANGE).map(str::to_owned),
            range: head.header(header::RANGE).map(str::to_owned),
            fault,
            status,
        }
    }
}

/// The registry. Dropping it ends it.
#[derive(Debug)]
pub struct HostileRegistry {
    shared: Arc<Shared>,
    _serving: Serving,
}

/// What the connections share.
#[derive(Debug)]
struct Shared {
    config: HostileConfig,
    registry: SocketAddr,
    elsewhere: SocketAddr,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    content: Content,
    schedule: Schedule,
    seen: Vec<Seen>,
    broken_tags: Vec<String>,
}

impl HostileRegistry {
    /// Starts it, with nothing in it.
    pub fn start(config: HostileConfig) -> io::Result<Self> {
        let elsewhere = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        elsewhere.set_nonblocking(true)?;
        let elsewhere_address = elsewhere.local_addr()?;
        let (send, receive) = std::sync::mpsc::channel();
        let serving = Serving::start(move |registry| async move {
            let (Ok(shared), Ok(elsewhere)) = (receive.recv(), TcpListener::from_std(elsewhere)) else {
                return;
            };
            let shared: Arc<Shared> = shared;
            tokio::join!(
                accept(&shared, registry, Side::Registry),
                accept(&shared, elsewhere, Side::Elsewhere)
            );
        })?;
        let shared = Arc::new(Shared {
            config,
            registry: serving.address(),
            elsewhere: elsewhere_address,
            state: Mutex::default(),
        });
        shared.config.rules.iter().cloned().for_each(|rule| shared.state().schedule.add(rule));
        send.send(Arc::clone(&shared)).map_err(io::Error::other)?;
        Ok(Self { shared, _serving: serving })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.shared.registry
    }

    /// Its host, as image references name it.
    pub fn host(&self) -> String {
        self.shared.registry.to_string()
    }

    /// Lets something go wrong.
    pub fn plan(&self, rule: Rule) {
        self.shared.state().schedule.add(rule);
    }

    /// Lets things go wrong by chance, where no rule says what is to.
    pub fn leave_to_chance(&self, chance: Chance) {
        self.shared.state().schedule.set_chance(chance);
    }

    /// From now on nothing goes wrong.
    pub fn behave(&self) {
        self.shared.state().schedule.clear();
    }

    /// The requests so far, oldest first.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.state().seen.clone()
    }

    /// How often something was asked so far.
    pub fn count(&self, operation: Operation) -> usize {
        self.shared.state().seen.iter().filter(|seen| seen.operation == Some(operation)).count()
    }

    /// Puts a blob there.
    pub fn put_blob(&self, repository: &str, bytes: impl Into<Bytes>) -> Digest {
        let bytes = bytes.into();
        let digest = Digest::of(&bytes);
        self.shared.state().content.repository(repository).blobs.insert(digest, bytes);
        digest
    }

    /// Puts a manifest there, and tags it.
    pub fn put_manifest(
        &self,
        repository: &str,
        media_type: &MediaType,
        bytes: impl Into<Bytes>,
        tag: Option<&str>,
    ) -> Digest {
        let bytes = bytes.into();
        let digest = Digest::of(&bytes);
        let mut state = self.shared.state();
        let repository = state.content.repository(repository);
        repository.manifests.insert(digest, Manifest { media_type: media_type.to_string(), bytes });
        if let Some(tag) = tag {
            repository.tags.insert(tag.to_owned(), digest);
        }
        digest
    }

    /// A blob, as the registry has it.
    pub fn blob(&self, repository: &str, digest: &Digest) -> Option<Bytes> {
        self.shared.blob(repository, digest)
    }

    /// The bytes of the manifest that a tag or digest names.
    pub fn manifest(&self, repository: &str, reference: &str) -> Option<Bytes> {
        let state = self.shared.state();
        state.content.manifest(repository, reference).map(|(_, manifest)| manifest.bytes.clone())
    }

    /// The tags of a repository.
    pub fn tags(&self, repository: &str) -> Vec<String> {
        let state = self.shared.state();
        let repository = state.content.repositories.get(repository);
        repository.map(|repository| repository.tags.keys().cloned().collect()).unwrap_or_default()
    }

    /// What was wrong whenever a tag was given to an image of which something was missing or had other bytes.
    pub fn broken_tags(&self) -> Vec<String> {
        self.shared.state().broken_tags.clone()
    }

    /// How many uploads were begun and neither ended nor cancelled.
    pub fn unfinished_uploads(&self) -> usize {
        self.shared.state().content.uploads.len()
    }
}

async fn accept(shared: &Arc<Shared>, listener: TcpListener, side: Side) {
    loop {
        // What fails to be accepted was hung up on before.
        if let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(connection::serve(Arc::clone(shared), stream, side));
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // No panic leaves the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    const fn address(&self, side: Side) -> SocketAddr {
        match side {
            Side::Registry => self.registry,
            Side::Elsewhere => self.elsewhere,
        }
    }

    fn see(&self, seen: Seen) {
        self.state().seen.push(seen);
    }

    fn fault(&self, operation: Operation, target: &Target, side: Side, length: Option<u64>) -> Option<Fault> {
        let about = match target {
            Target::Base | Target::Catalog => "",
            Target::Upload(name, _) => name,
            target => &format!("{target:?}"),
        };
        let fault = self.state().schedule.next(operation, about, length);
        // Whoever is sent elsewhere is there then.
        fault.filter(|fault| side == Side::Registry || *fault != Fault::Redirect)
    }

    fn blob(&self, repository: &str, digest: &Digest) -> Option<Bytes> {
        self.state().content.blob(repository, digest).cloned()
    }

    fn expire_tokens(&self) {
        if let Some(tokens) = &self.config.tokens {
            tokens.authority.revoke_all();
        }
    }

    /// What arrived of a body that broke off belongs to its upload.
    fn keep_part(&self, target: &Target, operation: Operation, body: &Bytes) {
        if let (Target::Upload(_, id), Operation::UploadPatch | Operation::UploadPut) = (target, operation)
            && let Some(upload) = self.state().content.uploads.get_mut(id)
        {
            upload.bytes.extend_from_slice(body);
        }
    }

    /// What is wrong with the token for what is asked.
    fn guard(&self, head: &Head, operation: Operation, target: &Target, side: Side) -> Option<Answer> {
        let tokens = self.config.tokens.as_ref().filter(|_| side == Side::Registry)?;
        let action = operation.action();
        let Some(token) = bearer(head) else { return Some(self.challenge(target, action, None)) };
        let Ok(claims) = tokens.authority.verify(token) else {
            return Some(self.challenge(target, action, Some("invalid_token")));
        };
        let name = target.repository().filter(|name| !claims.allow(name, action));
        name.map(|_| self.challenge(target, action, Some("insufficient_scope")))
    }

    /// A blob is mounted from where it could be pulled from.
    fn may_mount(&self, head: &Head) -> bool {
        let (Some(tokens), Some(from)) = (&self.config.tokens, head.query("from")) else { return true };
        let claims = bearer(head).and_then(|token| tokens.authority.verify(token).ok());
        claims.is_some_and(|claims| claims.allow(&from, "pull"))
    }

    /// 401 (RFC 6750 §3).
    fn challenge(&self, target: &Target, action: &str, problem: Option<&str>) -> Answer {
        let (realm, service) = match &self.config.tokens {
            Some(tokens) => (tokens.realm.clone(), tokens.authority.service().to_owned()),
            None => (format!("http://{}/token", self.registry), "nobody".to_owned()),
        };
        let actions = if action == "push" { "pull,push" } else { action };
        let scope = match target.repository() {
            Some(name) => format!(",scope=\"repository:{name}:{actions}\""),
            None => String::new(),
        };
        let problem = problem.map(|problem| format!(",error=\"{problem}\"")).unwrap_or_default();
        answer::error(401, "UNAUTHORIZED", "authentication required").with(
            header::WWW_AUTHENTICATE,
            &format!("Bearer realm=\"{realm}\",service=\"{service}\"{scope}{problem}"),
        )
    }

    /// Does what is asked, or what a registry does that loses bytes.
    fn carry_out(
        &self,
        operation: Operation,
        target: &Target,
        head: &Head,
        body: &Bytes,
        fault: Option<&Fault>,
    ) -> Answer {
        let mut state = self.state();
        if fault == Some(&Fault::LastChunkOnly)
            && let Target::Upload(name, id) = target
            && let Some(digest) = head.query("digest").and_then(|digest| digest.parse::<Digest>().ok())
            && let Some(upload) = state.content.uploads.remove(id)
        {
            let last = if body.is_empty() {
                Bytes::copy_from_slice(&upload.bytes[upload.last_chunk..])
            } else {
                body.clone()
            };
            state.content.repository(name).blobs.insert(digest, last);
            return Answer::new(201)
                .with(header::LOCATION, &format!("/v2/{name}/blobs/{digest}"))
                .with(answer::CONTENT_DIGEST, &digest);
        }
        let mut config = self.config.clone();
        if fault == Some(&Fault::MountRefused) || !self.may_mount(head) {
            config.mounts = Mounts::Never;
        }
        let answer = answer::answer(&mut state.content, &config, operation, target, head, body);
        if let (Operation::ManifestPut, Target::Manifest(name, reference), true) =
            (operation, target, answer.status.is_success())
        {
            let lacks = state.content.lacks(name, body);
            if !lacks.is_empty() {
                state.broken_tags.push(format!("{name}:{reference}: {}", lacks.join(", ")));
            }
        }
        answer
    }
}

fn bearer(head: &Head) -> Option<&str> {
    head.header(header::AUTHORIZATION)?.strip_prefix("Bearer ")
}
