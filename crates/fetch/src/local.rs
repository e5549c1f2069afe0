//! Files of this machine: find-links folders, local mirrors.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use bytes::BytesMut;
use longshore_oci::Digest;
use longshore_store::{BlobStore, Pump};
use tokio::io::AsyncReadExt;
use url::Url;

use crate::{ByteRange, Download, FetchError, Result};

/// How much is read at once.
const PIECE: usize = 256 << 10;

/// The URL of something given as a URL or as a path; a relative path is taken from the current folder.
pub fn location(text: &str) -> Result<Url> {
    let refused = || FetchError::Location { what: text.to_owned(), url: text.to_owned() };
    match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https" | "file") => Ok(url),
        Ok(_) if text.contains("://") => Err(refused()),
        _ if text.is_empty() => Err(refused()),
        _ => {
            std::path::absolute(text).ok().and_then(|path| Url::from_file_path(path).ok()).ok_or_else(refused)
        }
    }
}

/// The file that a URL of this machine names.
pub(crate) fn path_of(what: &str, url: &Url) -> Result<PathBuf> {
    url.to_file_path().map_err(|()| FetchError::Location { what: what.to_owned(), url: url.to_string() })
}

fn cannot_read<'a>(what: &'a str, path: &'a Path) -> impl Fn(std::io::Error) -> FetchError {
    move |source| FetchError::Local { what: what.to_owned(), path: path.to_owned(), source }
}

/// Copies a file into a store.
pub(crate) async fn copy(
    download: &Download,
    store: &BlobStore,
    progress: &(dyn Fn(u64) + Send + Sync),
) -> Result<(Digest, u64)> {
    let path = path_of(&download.what, &download.url)?;
    let failed = cannot_read(&download.what, &path);
    let mut file = tokio::fs::File::open(&path).await.map_err(&failed)?;
    file.set_max_buf_size(PIECE);
    let mut pump = Pump::new(store.writer());
    let mut arrived = 0;
    loop {
        let mut piece = BytesMut::with_capacity(PIECE);
        match file.read_buf(&mut piece).await.map_err(&failed)? {
            0 => break,
            length => arrived += length as u64,
        }
        pump.push(piece.freeze()).await?;
        progress(arrived);
    }
    download.commit(pump.finish().await?).await
}

/// A part of a file, where it begins, and how long the file is.
pub(crate) fn read(
    what: &str,
    url: &Url,
    range: Option<ByteRange>,
    limit: u64,
) -> Result<(Vec<u8>, u64, u64)> {
    let path = path_of(what, url)?;
    let failed = cannot_read(what, &path);
    let mut file = File::open(&path).map_err(&failed)?;
    let total = file.metadata().map_err(&failed)?.len();
    let (start, end) = match range {
        None => (0, total),
        Some(ByteRange::From(start, end)) => (start.min(total), end.min(total)),
        Some(ByteRange::Last(length)) => (total.saturating_sub(length), total),
    };
    let length = end.saturating_sub(start);
    if length > limit {
        return Err(FetchError::TooLarge { what: what.to_owned(), host: "this machine".to_owned(), limit });
    }
    file.seek(SeekFrom::Start(start)).map_err(&failed)?;
    let mut bytes = Vec::new();
    file.take(length).read_to_end(&mut bytes).map_err(&failed)?;
    Ok((bytes, start, total))
}
