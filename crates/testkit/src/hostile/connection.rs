//! One connection, and what goes wrong on it.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{StatusCode, header};
use longshore_oci::Digest;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{
    Fault, Operation, RangeLie, Seen, Shared, Side, WrongLocation,
    answer::{CONTENT_DIGEST, error, location},
    message::{Answer, Ended, Head, Wire},
    operation::Target,
};

/// The longest that a client is left waiting.
const LONGEST_STALL: Duration = Duration::from_secs(5);

/// What becomes of a connection after a request.
enum Then {
    Next,
    Close,
    Reset,
}

/// Answers the requests of a connection until it ends.
pub(super) async fn serve(shared: Arc<Shared>, stream: TcpStream, side: Side) {
    let _ = stream.set_nodelay(true);
    let mut wire = Wire::new(stream);
    loop {
        let head = match wire.head().await {
            Ok(Some(head)) => head,
            Ok(None) => return,
            Err(_) => {
                let _ = wire.write(&error(400, "UNSUPPORTED", "not a request").head()).await;
                return;
            }
        };
        match exchange(&shared, &mut wire, &head, side).await {
            Ok(Then::Next) => {}
            Ok(Then::Close) => return close(wire).await,
            Ok(Then::Reset) => return wire.reset(),
            // The client is gone.
            Err(_) => return,
        }
    }
}

/// Ends a connection so that the client reads the answer, although it may still be sending.
async fn close(mut wire: Wire) {
    let _ = wire.stream.shutdown().await;
    let drain = async {
        let mut rest = vec![0; 64 << 10];
        while matches!(wire.stream.read(&mut rest).await, Ok(length) if length > 0) {}
    };
    let _ = tokio::time::timeout(Duration::from_secs(1), drain).await;
}

async fn exchange(shared: &Shared, wire: &mut Wire, head: &Head, side: Side) -> io::Result<Then> {
    let target = Target::parse(&head.path);
    let operation =
        target.as_ref().and_then(|target| target.operation(&head.method, head.query("mount").is_some()));
    let (Some(target), Some(operation)) = (target, operation) else {
        wire.body(head, usize::MAX).await?;
        shared.see(Seen::new(head, None, None, side, Some(404)));
        return write(wire, head, &error(404, "UNSUPPORTED", "no such end point")).await;
    };
    let fault = shared.fault(operation, &target, side, head.length());
    let seen = |status| Seen::new(head, Some(operation), fault.clone(), side, status);

    if let Some(fault) = &fault
        && let Some(then) = before(shared, wire, head, &target, fault).await?
    {
        let status = match &then {
            (_, Some(answer)) => Some(answer.status.as_u16()),
            (_, None) => None,
        };
        shared.see(seen(status));
        return match then {
            (Then::Next, Some(answer)) => write(wire, head, &answer).await,
            (then, Some(answer)) => write(wire, head, &answer).await.map(|_| then),
            (then, None) => Ok(then),
        };
    }

    let (body, ended) = wire.body(head, usize::MAX).await?;
    if ended != Ended::Whole {
        shared.keep_part(&target, operation, &body);
        shared.see(seen(None));
        return Ok(Then::Close);
    }
    let mut answer = match shared.guard(head, operation, &target, side) {
        Some(refusal) => refusal,
        None => shared.carry_out(operation, &target, head, &body, fault.as_ref()),
    };
    if let Some(fault) = &fault {
        spoil(shared, &mut answer, fault, operation, &target, head);
    }
    let is_reset = fault == Some(Fault::ResetAfterCommit);
    shared.see(seen((!is_reset).then_some(answer.status.as_u16())));
    if is_reset {
        return Ok(Then::Reset);
    }
    deliver(wire, head, &answer, fault.as_ref()).await
}

/// The faults that leave nothing done. What becomes of the connection, and the answer if there is one.
async fn before(
    shared: &Shared,
    wire: &mut Wire,
    head: &Head,
    target: &Target,
    fault: &Fault,
) -> io::Result<Option<(Then, Option<Answer>)>> {
    let refused = match fault {
        Fault::ResetAtOnce => return Ok(Some((Then::Reset, None))),
        Fault::ResetWhileReading { after } | Fault::StallWhileReading { after } => {
            let (body, _) = wire.body(head, *after).await?;
            if let Some(operation) = target.operation(&head.method, false) {
                shared.keep_part(target, operation, &body);
            }
            if matches!(fault, Fault::StallWhileReading { .. }) {
                tokio::time::sleep(LONGEST_STALL).await;
            }
            return Ok(Some((Then::Reset, None)));
        }
        Fault::BodyCap { .. } => {
            let mut answer = Answer::new(413).body("text/html", "<html>413 Request Entity Too Large</html>");
            answer = answer.with(header::CONNECTION, "close");
            return Ok(Some((Then::Close, Some(answer))));
        }
        Fault::ChunkCap { .. } => {
            let answer = error(416, "BLOB_UPLOAD_INVALID", "the chunk is too large");
            return Ok(Some((Then::Close, Some(answer.with(header::CONNECTION, "close")))));
        }
        Fault::TooManyRequests { retry_after } => {
            let answer = error(429, "TOOMANYREQUESTS", "too many requests");
            match retry_after {
                Some(seconds) => answer.with(header::RETRY_AFTER, seconds),
                None => answer,
            }
        }
        Fault::Refused { status } => error(*status, "UNKNOWN", "not now"),
        Fault::NeverAuthorized => shared.challenge(target, "pull", Some("insufficient_scope")),
        Fault::Html => Answer::new(200).body("text/html", "<html><body>Please sign in</body></html>"),
        Fault::RedirectLoop => Answer::new(307).with(header::LOCATION, &head.path),
        Fault::Redirect => {
            let there = format!("http://{}{}", shared.address(Side::Elsewhere), head.path);
            Answer::new(307).with(header::LOCATION, &there)
        }
        Fault::TokensExpire => {
            shared.expire_tokens();
            return Ok(None);
        }
        _ => return Ok(None),
    };
    wire.body(head, usize::MAX).await?;
    Ok(Some((Then::Next, Some(refused))))
}

/// The faults of an answer to something that was done.
fn spoil(
    shared: &Shared,
    answer: &mut Answer,
    fault: &Fault,
    operation: Operation,
    target: &Target,
    head: &Head,
) {
    let is_success = answer.status.is_success();
    let set = |answer: &mut Answer, name, value: &str| {
        let changed = std::mem::replace(answer, Answer::new(200)).with(name, value);
        *answer = changed;
    };
    match fault {
        Fault::RefusedAfterCommit { status } => {
            *answer = error(*status, "UNKNOWN", "it is not known what was done");
        }
        _ if !is_success => {}
        Fault::WrongDigestHeader => set(answer, CONTENT_DIGEST, &Digest::of(b"something else").to_string()),
        Fault::WrongBytes => {
            let mut bytes = answer.body.to_vec();
            let middle = bytes.len() / 2;
            if let Some(byte) = bytes.get_mut(middle) {
                *byte ^= 1;
            }
            answer.body = Bytes::from(bytes);
        }
        Fault::LongerBytes => {
            answer.body = Bytes::from([&answer.body[..], b" and more"].concat());
        }
        Fault::Location(wrong) if answer.headers.contains_key(header::LOCATION) => {
            let repository = target.repository().unwrap_or_default();
            match wrong {
                WrongLocation::Missing => {
                    answer.headers.remove(header::LOCATION);
                }
                WrongLocation::Garbage => set(answer, "location", "http://[not a host/upload"),
                WrongLocation::Unknown => set(answer, "location", &location(repository, "upload-0", 0)),
                WrongLocation::Elsewhere => {
                    let path = answer.headers.get(header::LOCATION).and_then(|path| path.to_str().ok());
                    let there =
                        format!("http://{}{}", shared.address(Side::Elsewhere), path.unwrap_or_default());
                    set(answer, "location", &there);
                }
                // The discard port.
                WrongLocation::Nobody => set(answer, "location", "http://127.0.0.1:9/v2/upload"),
            }
        }
        Fault::CreatedToPatch => answer.status = StatusCode::CREATED,
        Fault::UploadRangeLie => set(answer, "range", "0-0"),
        Fault::PagingLoop => {
            let query = head.query.as_deref().map(|query| format!("?{query}")).unwrap_or_default();
            set(answer, "link", &format!("<{}{query}>; rel=\"next\"", head.path));
        }
        Fault::RangeLie(lie) if answer.status == StatusCode::PARTIAL_CONTENT => {
            range_lie(shared, answer, *lie, target);
        }
        Fault::NoLength if matches!(operation, Operation::BlobHead | Operation::ManifestHead) => {
            // What a server says that makes its answers as it goes.
            set(answer, "transfer-encoding", "chunked");
        }
        _ => {}
    }
}

fn range_lie(shared: &Shared, answer: &mut Answer, lie: RangeLie, target: &Target) {
    let Target::Blob(name, digest) = target else { return };
    let Some(whole) = shared.blob(name, digest) else { return };
    match lie {
        RangeLie::Ignored => {
            answer.status = StatusCode::OK;
            answer.headers.remove(header::CONTENT_RANGE);
            answer.body = whole;
        }
        RangeLie::Shifted | RangeLie::Silent => {
            let length = answer.body.len();
            answer.body = whole.slice(..length);
            if lie == RangeLie::Shifted && length > 0 {
                let range = format!("bytes 0-{}/{}", length - 1, whole.len());
                *answer = answer.clone().with(header::CONTENT_RANGE, &range);
            }
        }
    }
}

/// Sends an answer, as well as the fault lets it.
async fn deliver(wire: &mut Wire, head: &Head, answer: &Answer, fault: Option<&Fault>) -> io::Result<Then> {
    let mut bytes = answer.head();
    let body_at = bytes.len();
    if head.method != http::Method::HEAD {
        bytes.extend_from_slice(&answer.body);
    }
    match fault {
        Some(Fault::ResetWhileAnswering { after }) => {
            wire.write(&bytes[..bytes.len().min(body_at + after)]).await?;
            // What is on its way when a reset comes is lost; the client is to see the beginning.
            tokio::time::sleep(Duration::from_millis(2)).await;
            Ok(Then::Reset)
        }
        Some(Fault::Truncated { after }) => {
            wire.write(&bytes[..bytes.len().min(body_at + after)]).await?;
            Ok(Then::Close)
        }
        Some(Fault::Trickle { pause }) => {
            // A head byte by byte is slow enough.
            for byte in &bytes[..body_at.min(64)] {
                wire.write(&[*byte]).await?;
                tokio::time::sleep(*pause).await;
            }
            wire.write(&bytes[body_at.min(64)..]).await?;
            Ok(Then::Next)
        }
        Some(Fault::Stall { after }) => {
            wire.write(&bytes[..bytes.len().min(*after)]).await?;
            let _ = tokio::time::timeout(LONGEST_STALL, wire.stream.read(&mut [0])).await;
            Ok(Then::Close)
        }
        _ => {
            wire.write(&bytes).await?;
            Ok(Then::Next)
        }
    }
}

async fn write(wire: &mut Wire, head: &Head, answer: &Answer) -> io::Result<Then> {
    deliver(wire, head, answer, None).await
}
