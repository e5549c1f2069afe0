//! Uploads: whole in one request, in chunks where a registry refuses that, and resumed where one was cut.

use std::{io, sync::Arc};

use http::{HeaderValue, Method, StatusCode, header};
use longshore_endpoint::{Stage, Tries};
use longshore_oci::{Descriptor, Digest, Repository};
use url::Url;

use crate::{
    BlobSource, Client, ClientError, Event, Observer, Result,
    authorize::{Authorizer, Pass},
    capability::Lack,
    client::path,
    copy::BEGUN_AGAIN,
    exchange::Call,
    location::Destination,
    quirks::{self, Grown},
    reader::{self, Prefix, Sending},
    scope::{Access, Scopes},
    site::Site,
    wire::{Answer, Body, Failure, Refusal},
};

/// How often one request with a body meets a challenge.
const MOST_CHALLENGES: usize = 2;

/// One blob on its way into a repository.
pub(crate) struct Upload<'a> {
    pub(crate) client: &'a Client,
    pub(crate) site: &'a Arc<Site>,
    pub(crate) what: &'a str,
    pub(crate) repository: &'a Repository,
    pub(crate) blob: &'a Descriptor,
    pub(crate) source: Arc<dyn BlobSource>,
    pub(crate) observer: &'a Arc<Observer>,
}

/// How a blob is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// `PUT`, everything in one request.
    Whole,
    /// `PATCH` for each part of at most so many bytes, and a `PUT` without a body.
    Chunks(u64),
}

/// An upload that a registry has started.
pub(crate) struct Session {
    to: Destination,
    /// What the registry has of the blob.
    received: u64,
    /// The hash of as much of that as is known.
    prefix: Prefix,
    /// The least that it takes as a chunk (`OCI-Chunk-Min-Length`).
    least: u64,
    /// Whether it was sent in more than one request.
    in_parts: bool,
    /// Whether its end was answered by something else than 201, as a login page does it.
    in_doubt: bool,
}

/// How a try ended that did not bring the blob.
enum Ended {
    /// The registry takes no request as large as this.
    TooLarge,
    /// The registry takes no chunks, or does not put them together.
    NoChunks(Failure),
    /// The upload has gone wrong, and only a new one can bring the blob.
    Lost(Failure),
    /// Something that may pass; the upload may go on where it was cut.
    Cut(Failure),
    /// There is no use in another try.
    Final(ClientError),
}

impl From<ClientError> for Ended {
    fn from(error: ClientError) -> Self {
        if error.is_retryable() { Self::Cut(error.into()) } else { Self::Final(error) }
    }
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Self {
        if failure.error.is_retryable() { Self::Cut(failure) } else { Self::Final(failure.error) }
    }
}

impl Upload<'_> {
    /// Sends the blob, in a session that the registry has already started if there is one.
    pub(crate) async fn run(&self, started: Option<Session>) -> Result<()> {
        let mut tries = Tries::new(self.client.config().pauses);
        let mut shape = if self.client.capabilities().lacks(self.site, Lack::WholeUploads) {
            Shape::Chunks(quirks::CHUNK)
        } else {
            Shape::Whole
        };
        let mut tried_whole = shape == Shape::Whole;
        let mut session = started;
        let mut furthest = 0;
        let mut is_resumable = true;
        loop {
            let mut current = match session.take() {
                Some(session) => session,
                None => self.start().await?,
            };
            let ended = match self.send(&mut current, shape).await {
                Ok(()) => match self.verify(&current).await {
                    Ok(()) => return Ok(()),
                    Err(ended) => ended,
                },
                Err(ended) => ended,
            };
            let (failure, may_go_on) = match ended {
                Ended::Final(error) => return Err(error),
                Ended::TooLarge => {
                    match shape {
                        Shape::Whole if !current.in_parts => {
                            self.client.capabilities().note(self.site, Lack::WholeUploads);
                        }
                        // The rest of a blob that was cut, in one piece: what has come is not lost.
                        Shape::Whole => session = self.ask(&mut current).await.then_some(current),
                        Shape::Chunks(length) => {
                            let reason = format!(
                                "takes the blob neither in one request nor in chunks of {length} bytes"
                            );
                            return Err(self.protocol(&reason));
                        }
                    }
                    shape = Shape::Chunks(quirks::CHUNK);
                    continue;
                }
                Ended::NoChunks(failure) => {
                    if shape != Shape::Whole && tried_whole {
                        return Err(failure.error);
                    }
                    (shape, tried_whole, is_resumable) = (Shape::Whole, true, false);
                    (failure, false)
                }
                Ended::Lost(failure) => (failure, false),
                Ended::Cut(failure) => (failure, true),
            };
            if current.received > furthest {
                furthest = current.received;
                tries.made_headway();
            }
            let Some(pause) = tries.failed(failure.stage, failure.retry_after) else {
                return Err(failure.error);
            };
            let (what, reason) = (self.what.to_owned(), failure.error.to_string());
            tracing::debug!(what, reason, ?pause, "upload broken, trying again");
            (self.observer)(Event::Retry { what, reason, pause });
            tokio::time::sleep(pause).await;
            // The answer to an upload that came about may have been lost.
            if self.is_there().await? {
                return Ok(());
            }
            if may_go_on && is_resumable && self.ask(&mut current).await {
                session = Some(current);
            }
        }
    }

    fn scopes(&self) -> Scopes {
        Scopes::repository(self.repository.path(), Access::Push)
    }

    fn call(&self, method: Method, to: Destination) -> Call<'_> {
        Call::new(self.what, method, to, self.scopes()).of(self.repository.path())
    }

    fn protocol(&self, reason: &str) -> ClientError {
        let (what, host) = (self.what.to_owned(), self.site.shown());
        ClientError::Protocol { what, host, reason: reason.to_owned() }
    }

    /// Starts an upload.
    async fn start(&self) -> Result<Session> {
        let to = self.site.api(self.what, &path(self.repository, "blobs/uploads/"))?;
        let call = self.call(Method::POST, to);
        let answer = self.client.exchange(self.site, &call, &[StatusCode::ACCEPTED]).await?;
        let session = Session::started(self.site, self.what, &answer)?;
        session.ok_or_else(|| self.protocol("starts an upload without saying where (Location)"))
    }

    async fn send(&self, session: &mut Session, shape: Shape) -> Result<(), Ended> {
        match shape {
            Shape::Whole if session.received == 0 => self.send_whole(session).await,
            Shape::Whole => self.send_chunks(session, u64::MAX).await,
            Shape::Chunks(length) => self.send_chunks(session, length).await,
        }
    }

    async fn send_whole(&self, session: &mut Session) -> Result<(), Ended> {
        let to = with_digest(&session.to, &self.blob.digest);
        let (answer, read) = self.part(Method::PUT, &to, None, Prefix::default(), 0, self.blob.size).await?;
        match answer.status() {
            StatusCode::CREATED | StatusCode::OK | StatusCode::NO_CONTENT => {
                session.in_doubt |= answer.status() != StatusCode::CREATED;
                self.difference(read.as_ref()).map_or(Ok(()), Err)
            }
            _ => Err(self.refused(answer.refusal().await, read.as_ref())),
        }
    }

    async fn send_chunks(&self, session: &mut Session, most: u64) -> Result<(), Ended> {
        session.in_parts = true;
        while session.received < self.blob.size {
            let start = session.received;
            let end = start.saturating_add(most.max(session.least)).min(self.blob.size);
            let range = format!("{start}-{}", end - 1);
            let prefix = session.prefix.clone();
            let (answer, read) =
                self.part(Method::PATCH, &session.to, Some(&range), prefix, start, end).await?;
            if !quirks::is_chunk_taken(answer.status()) {
                let refusal = answer.refusal().await;
                if quirks::takes_no_chunks(refusal.status, refusal.said.as_ref()) {
                    return Err(Ended::NoChunks(refusal.failure(self.what)));
                }
                let has = refusal.headers.get(header::RANGE).and_then(|range| range.to_str().ok());
                if quirks::is_out_of_step(refusal.status, has, start, self.blob.size) {
                    return Err(Ended::Cut(refusal.failure(self.what)));
                }
                return Err(self.refused(refusal, None));
            }
            let grown = quirks::received(answer.header(&header::RANGE), start, end);
            self.next(session, &answer)?;
            match (grown, read) {
                (Grown::To(received), Some(read)) if received == end => {
                    session.prefix = read;
                    session.received = received;
                }
                // It has taken less: what comes next begins there. The hash is continued from what is known.
                (Grown::To(received), _) if received > start => session.received = received,
                (Grown::To(_), _) => return Err(self.lost("takes chunks and does not keep them")),
                (Grown::Nonsense, _) => return Err(self.lost("has received what it was not sent (Range)")),
            }
        }
        self.hash_rest(session).await?;
        let to = with_digest(&session.to, &self.blob.digest);
        let hoped = [StatusCode::CREATED, StatusCode::OK, StatusCode::NO_CONTENT];
        let call = self.call(Method::PUT, to);
        // Not repeated here: whether the blob has come about is asked first.
        let answer = self.client.once(self.site, &call, &hoped).await;
        match answer {
            Ok(_) => self.difference(Some(&session.prefix)).map_or(Ok(()), Err),
            Err(Failure { error: ClientError::Refused { ref reason, .. }, .. })
                if reason.as_ref().is_some_and(|said| said.is("DIGEST_INVALID")) =>
            {
                let lost = || self.lost("says that the bytes it received have another digest");
                Err(self.difference(Some(&session.prefix)).unwrap_or_else(lost))
            }
            Err(Failure { error: error @ ClientError::NotFound { .. }, .. }) => {
                Err(Ended::Lost(error.into()))
            }
            Err(failure) => Err(failure.into()),
        }
    }

    /// Of what came in a request whose answer was lost, only the length is known.
    async fn hash_rest(&self, session: &mut Session) -> Result<(), Ended> {
        let size = self.blob.size;
        if session.prefix.length() == size {
            return Ok(());
        }
        let (source, blob) = (Arc::clone(&self.source), self.blob.clone());
        let (prefix, buffers) = (session.prefix.clone(), self.client.buffers().clone());
        let (_, _, reading) = reader::send(source, blob, prefix, size..size, buffers, |_| ()).split();
        match Sending::hashed(reading).await {
            Ok(read) => {
                session.prefix = read.unwrap_or_default();
                Ok(())
            }
            Err(source) => Err(self.unreadable(source)),
        }
    }

    fn lost(&self, reason: &str) -> Ended {
        Ended::Lost(self.protocol(reason).into())
    }

    /// What is wrong with what was sent: it must be what was meant.
    fn difference(&self, read: Option<&Prefix>) -> Option<Ended> {
        let Some(read) = read.filter(|read| read.length() == self.blob.size) else {
            return Some(self.lost("has accepted the blob before it was sent"));
        };
        let found = read.0.clone().finish();
        let changed = || Ended::Final(ClientError::Changed { what: self.what.to_owned(), found });
        (found != self.blob.digest).then(changed)
    }

    /// Where the next request of the upload goes. A registry that does not say has not moved it.
    fn next(&self, session: &mut Session, answer: &Answer) -> Result<()> {
        if let Some(location) = answer.header(&header::LOCATION) {
            session.to = self.site.destination(self.what, &answer.url, location)?;
        }
        Ok(())
    }

    /// Sends the bytes from `start` to `end`, meeting challenges. Returned is the hash of everything before `end`, if
    /// all of the part was taken.
    async fn part(
        &self,
        method: Method,
        to: &Destination,
        range: Option<&str>,
        prefix: Prefix,
        start: u64,
        end: u64,
    ) -> Result<(Answer, Option<Prefix>), Ended> {
        let authorizer = Authorizer {
            client: self.client,
            site: self.site,
            what: self.what,
            repository: Some(self.repository.path()),
        };
        let mut call = self.call(method, to.clone());
        call.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        if let Some(range) = range.and_then(|range| HeaderValue::from_str(range).ok()) {
            call.headers.insert(header::CONTENT_RANGE, range);
        }
        let mut scopes = self.scopes();
        let mut pass: Option<Pass> =
            if to.is_registry { Some(authorizer.prepare(&scopes).await?) } else { None };
        let mut challenges = 0;
        loop {
            let (observer, digest, size) = (Arc::clone(self.observer), self.blob.digest, self.blob.size);
            let moved = move |more| observer(Event::Moved { digest, bytes: start + more, size });
            let sending = reader::send(
                Arc::clone(&self.source),
                self.blob.clone(),
                prefix.clone(),
                start..end,
                self.client.buffers().clone(),
                moved,
            );
            let (body, sent, reading) = sending.split();
            let body = Body::Stream { body, length: end - start, sent };
            let answer = self.client.stream(self.site, &call, pass.as_ref(), body).await;
            let answer = match answer {
                Ok(answer) => answer,
                Err(failure) => {
                    // If reading failed, that is why the request broke.
                    return Err(match Sending::hashed(reading).await {
                        Err(source) => self.unreadable(source),
                        Ok(_) => Ended::Cut(failure),
                    });
                }
            };
            if answer.status() == StatusCode::UNAUTHORIZED
                && let Some(sent) = &pass
            {
                let refusal = answer.refusal().await;
                if challenges == MOST_CHALLENGES {
                    return Err(Ended::Final(authorizer.refused(sent, refusal.said)));
                }
                challenges += 1;
                pass = Some(authorizer.meet(&refusal.headers, refusal.said, sent, &mut scopes).await?);
                continue;
            }
            if answer.status() == StatusCode::FORBIDDEN
                && let Some(sent) = &pass
            {
                return Err(Ended::Final(authorizer.denied(sent, answer.refusal().await.said)));
            }
            // Who says no before everything is sent may leave the rest unread.
            if !answer.status().is_success() && !reading.is_finished() {
                return Ok((answer, None));
            }
            // So may who says yes to what it has not seen.
            let idle = self.client.config().web.config().idle_timeout;
            return match tokio::time::timeout(idle, Sending::hashed(reading)).await {
                Ok(Ok(read)) => Ok((answer, read)),
                Ok(Err(source)) => Err(self.unreadable(source)),
                Err(_) => Ok((answer, None)),
            };
        }
    }

    fn unreadable(&self, source: io::Error) -> Ended {
        let is_there_again = source.kind() == BEGUN_AGAIN;
        let error = ClientError::Source { what: self.what.to_owned(), source };
        if is_there_again { Ended::Lost(error.into()) } else { Ended::Final(error) }
    }

    /// What a refusal of a part means for the upload.
    fn refused(&self, refusal: Refusal, read: Option<&Prefix>) -> Ended {
        if quirks::is_too_large(refusal.status, refusal.said.as_ref()) {
            return Ended::TooLarge;
        }
        let is_lost = refusal.status == StatusCode::NOT_FOUND
            || refusal.said.as_ref().is_some_and(|said| {
                said.is("BLOB_UPLOAD_UNKNOWN") || said.is("BLOB_UPLOAD_INVALID") || said.is("DIGEST_INVALID")
            });
        if refusal.said.as_ref().is_some_and(|said| said.is("DIGEST_INVALID"))
            && let Some(read) = read
            && let Some(ended) = self.difference(Some(read))
        {
            return ended;
        }
        let failure = refusal.by(self.site.shown()).failure(self.what);
        if is_lost { Ended::Lost(failure) } else { failure.into() }
    }

    /// Asks how much of an upload the registry has. `false` if it cannot go on.
    async fn ask(&self, session: &mut Session) -> bool {
        let call = self.call(Method::GET, session.to.clone());
        let hoped = [StatusCode::NO_CONTENT, StatusCode::OK, StatusCode::ACCEPTED];
        let Ok(answer) = self.client.once(self.site, &call, &hoped).await else { return false };
        let Some(received) = quirks::status(answer.header(&header::RANGE), self.blob.size) else {
            return false;
        };
        if received < session.prefix.length() {
            session.prefix = Prefix::default();
        }
        session.received = received;
        session.in_parts |= received > 0;
        self.next(session, &answer).is_ok()
    }

    /// A blob that came in parts is looked at afterwards: there are registries that keep only the last part.
    async fn verify(&self, session: &Session) -> Result<(), Ended> {
        if !session.in_parts && !session.in_doubt {
            return Ok(());
        }
        let error = match self.measure().await? {
            Some(found) if found == self.blob.size => return Ok(()),
            Some(found) => {
                let (what, host) = (self.what.to_owned(), self.site.shown());
                ClientError::WrongSize { what, host, expected: self.blob.size, found }
            }
            None => self.protocol("accepted the blob and does not have it now"),
        };
        Err(Ended::NoChunks(error.into()))
    }

    async fn is_there(&self) -> Result<bool> {
        Ok(self.measure().await? == Some(self.blob.size))
    }

    /// The length of the blob that the registry has, if it has one and says how long it is: to `HEAD`, or to a request
    /// for its first byte.
    async fn measure(&self) -> Result<Option<u64>> {
        let look = self.client.look(self.site, self.what, self.repository, &self.blob.digest, Access::Push);
        let Some(presence) = look.await? else { return Ok(None) };
        if presence.size.is_some() {
            return Ok(presence.size);
        }
        let blob = path(self.repository, &format!("blobs/{}", self.blob.digest));
        let mut call = self.call(Method::GET, self.site.api(self.what, &blob)?);
        call.headers.insert(header::RANGE, HeaderValue::from_static("bytes=0-0"));
        let hoped = [StatusCode::OK, StatusCode::PARTIAL_CONTENT];
        let answer = self.client.exchange(self.site, &call, &hoped).await?;
        let total = answer.header(&header::CONTENT_RANGE).and_then(|range| range.rsplit_once('/'));
        match total {
            Some((_, total)) => Ok(total.trim().parse().ok()),
            None if answer.status() == StatusCode::OK => Ok(answer.length()),
            None => Ok(None),
        }
    }
}

impl Session {
    /// The upload that an answer says was started, if it says where.
    pub(crate) fn started(site: &Site, what: &str, answer: &Answer) -> Result<Option<Self>> {
        let Some(location) = answer.header(&header::LOCATION) else { return Ok(None) };
        let to = site.destination(what, &answer.url, location)?;
        let least = answer.named("oci-chunk-min-length").and_then(|least| least.trim().parse().ok());
        Ok(Some(Self {
            to,
            received: 0,
            prefix: Prefix::default(),
            least: least.unwrap_or(0),
            in_parts: false,
            in_doubt: false,
        }))
    }
}

/// The request that ends an upload names the digest, besides what the registry put into the URL.
fn with_digest(to: &Destination, digest: &Digest) -> Destination {
    let mut url: Url = to.url.clone();
    url.query_pairs_mut().append_pair("digest", &digest.to_string());
    Destination { url, is_registry: to.is_registry }
}

impl Client {
    /// Whether blobs may be pushed to a repository: an upload is started and cancelled.
    pub async fn probe_push(&self, repository: &Repository) -> Result<()> {
        let what = format!("push to {repository}");
        let site = self.server(repository.host());
        let scopes = Scopes::repository(repository.path(), Access::Push);
        let to = site.api(&what, &path(repository, "blobs/uploads/"))?;
        let call = Call::new(&what, Method::POST, to, scopes.clone()).of(repository.path());
        let answer = self.exchange(&site, &call, &[StatusCode::ACCEPTED]).await?;
        // A registry that cannot cancel an upload forgets it after a while.
        if let Some(location) = answer.header(&header::LOCATION)
            && let Ok(to) = site.destination(&what, &answer.url, location)
        {
            let cancel = Call::new(&what, Method::DELETE, to, scopes).of(repository.path());
            let hoped = [StatusCode::NO_CONTENT, StatusCode::OK, StatusCode::ACCEPTED];
            if let Err(Failure { error, stage: Stage::Connected | Stage::Connecting, .. }) =
                self.once(&site, &cancel, &hoped).await
            {
                tracing::debug!(%error, "started upload not cancelled");
            }
        }
        Ok(())
    }
}
