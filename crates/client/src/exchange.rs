//! One request to a registry and its answer, with everything that may come in between.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, header};
use longshore_endpoint::{Tries, redacted};
use url::Url;

use crate::{
    ClientError, Quota, Result,
    authorize::{Authorizer, Pass},
    client::Client,
    location::Destination,
    quirks,
    scope::Scopes,
    site::Site,
    wire::{Answer, Body, Failure, Wire},
};

/// As many redirects as browsers and curl follow, roughly.
const MOST_REDIRECTS: usize = 10;
/// How often one request meets a challenge: the registry's, and once more after a new credential or wider scopes.
const MOST_CHALLENGES: usize = 2;

/// A request to a registry.
#[derive(Clone, Debug)]
pub(crate) struct Call<'a> {
    pub(crate) what: &'a str,
    pub(crate) method: Method,
    pub(crate) to: Destination,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Option<Bytes>,
    pub(crate) scopes: Scopes,
    pub(crate) repository: Option<&'a str>,
}

impl<'a> Call<'a> {
    pub(crate) fn new(what: &'a str, method: Method, to: Destination, scopes: Scopes) -> Self {
        Self { what, method, to, headers: HeaderMap::new(), body: None, scopes, repository: None }
    }

    pub(crate) fn of(mut self, repository: &'a str) -> Self {
        self.repository = Some(repository);
        self
    }
}

impl Client {
    /// Tries a request until it has an answer of one of the `hoped` statuses or there is no use in it.
    pub(crate) async fn exchange(
        &self,
        site: &Arc<Site>,
        call: &Call<'_>,
        hoped: &[StatusCode],
    ) -> Result<Answer> {
        let mut tries = Tries::new(self.config().pauses);
        loop {
            match self.once(site, call, hoped).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => self.pause(&mut tries, failure).await?,
            }
        }
    }

    /// The same, with the whole body, of at most `limit` bytes.
    pub(crate) async fn exchange_whole(
        &self,
        site: &Arc<Site>,
        call: &Call<'_>,
        hoped: &[StatusCode],
        limit: u64,
    ) -> Result<Whole> {
        let mut tries = Tries::new(self.config().pauses);
        loop {
            let answer = self.once(site, call, hoped).await;
            let whole = match answer {
                Ok(answer) => {
                    let (headers, url) = (answer.headers().clone(), answer.url.clone());
                    answer.bytes(limit).await.map(|bytes| Whole { headers, url, bytes })
                }
                Err(failure) => Err(failure),
            };
            match whole {
                Ok(whole) => return Ok(whole),
                Err(failure) => self.pause(&mut tries, failure).await?,
            }
        }
    }

    /// Waits before the next try, if there is to be one.
    async fn pause(&self, tries: &mut Tries, failure: Failure) -> Result<()> {
        let pause = failure.error.is_retryable().then(|| tries.failed(failure.stage, failure.retry_after));
        let Some(pause) = pause.flatten() else { return Err(failure.error) };
        tracing::debug!(error = %failure.error, ?pause, "trying again");
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// One try: challenges are met and redirects followed.
    pub(crate) async fn once(
        &self,
        site: &Arc<Site>,
        call: &Call<'_>,
        hoped: &[StatusCode],
    ) -> Result<Answer, Failure> {
        let authorizer = Authorizer { client: self, site, what: call.what, repository: call.repository };
        let mut scopes = call.scopes.clone();
        let mut challenges = 0;
        let mut pass = if call.to.is_registry { Some(authorizer.prepare(&scopes).await?) } else { None };
        loop {
            let body = call.body.clone().map_or(Body::None, Body::Bytes);
            let answer = self.follow(site, call, pass.as_ref(), body).await?;
            if hoped.contains(&answer.status()) {
                return Ok(answer);
            }
            let is_registry = answer.url.origin() == site.place.endpoint.url.origin();
            let refusal = answer.refusal().await;
            match &pass {
                Some(sent)
                    if refusal.status == StatusCode::UNAUTHORIZED && is_registry && !refusal.is_web_page =>
                {
                    if challenges == MOST_CHALLENGES {
                        return Err(authorizer.refused(sent, refusal.said).into());
                    }
                    challenges += 1;
                    pass = Some(authorizer.meet(&refusal.headers, refusal.said, sent, &mut scopes).await?);
                }
                Some(sent) if refusal.is_denial() && is_registry => {
                    return Err(authorizer.denied(sent, refusal.said).into());
                }
                _ if is_registry => return Err(refusal.by(site.shown()).failure(call.what)),
                _ => return Err(refusal.failure(call.what)),
            }
        }
    }

    /// Sends a request whose body is sent once, with what is known of the registry's demands. Whoever calls meets
    /// challenges with [`Authorizer`].
    pub(crate) async fn stream(
        &self,
        site: &Arc<Site>,
        call: &Call<'_>,
        pass: Option<&Pass>,
        body: Body,
    ) -> Result<Answer, Failure> {
        self.request(site, call, &call.to, pass, body).await
    }

    /// Follows redirects of what only reads. Everything else is done where it was asked for, or not at all.
    async fn follow(
        &self,
        site: &Arc<Site>,
        call: &Call<'_>,
        pass: Option<&Pass>,
        body: Body,
    ) -> Result<Answer, Failure> {
        let reads = matches!(call.method, Method::GET | Method::HEAD);
        let mut answer = self.request(site, call, &call.to, pass, body).await?;
        for _ in 0..MOST_REDIRECTS {
            if !reads || !is_redirect(answer.status()) {
                return Ok(answer);
            }
            let Some(location) = answer.header(&header::LOCATION) else { return Ok(answer) };
            let next = site.destination(call.what, &answer.url, location)?;
            answer = self.request(site, call, &next, pass, Body::None).await?;
        }
        let reason = "redirects more than ten times".to_owned();
        Err(ClientError::Protocol { what: call.what.to_owned(), host: site.shown(), reason }.into())
    }

    async fn request(
        &self,
        site: &Arc<Site>,
        call: &Call<'_>,
        to: &Destination,
        pass: Option<&Pass>,
        body: Body,
    ) -> Result<Answer, Failure> {
        let mut headers = call.headers.clone();
        if let Some(value) = pass.filter(|_| to.is_registry).and_then(|pass| pass.header.clone()) {
            headers.insert(header::AUTHORIZATION, value);
        }
        if to.is_registry {
            site.metronome.beat().await;
        }
        let wire = Wire { client: self, what: call.what, endpoint: &site.place.endpoint };
        let answer = wire.send(call.method.clone(), &to.url, headers, body).await?;
        // Nothing was done where a login page came. Answers that are read are looked at by whoever reads them.
        let changes = !matches!(call.method, Method::GET | Method::HEAD);
        if changes && answer.status().is_success() && quirks::is_page(&answer) {
            let url = redacted(&answer.url);
            return Err(ClientError::NotRegistry { what: call.what.to_owned(), url }.into());
        }
        if let Some(quota) = Quota::read(answer.headers()) {
            site.note_quota(quota);
        }
        Ok(answer)
    }
}

/// An answer with its body.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) headers: HeaderMap,
    pub(crate) url: Url,
    pub(crate) bytes: Bytes,
}

impl Whole {
    pub(crate) fn named(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub(crate) fn content_type(&self) -> Option<&str> {
        self.named("content-type")
    }
}

const fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}
