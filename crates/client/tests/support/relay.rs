//! What stands between a client and a registry.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use longshore_testkit::Serving;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::aws_lc_rs,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    },
};

/// Passes bytes on to a registry.
pub(crate) struct Relay {
    serving: Serving,
    /// The certificate of the authority that vouches for it, in PEM format, if it speaks TLS.
    pub(crate) authority: Option<String>,
}

impl Relay {
    /// Cuts the first connection that sends more than so many bytes.
    pub(crate) fn cutting(to: SocketAddr, after: usize) -> Self {
        let is_armed = Arc::new(AtomicBool::new(true));
        let serving = Serving::start(move |listener| async move {
            while let Ok((client, _)) = listener.accept().await {
                let is_armed = Arc::clone(&is_armed);
                tokio::spawn(async move { cut(client, to, after, &is_armed).await });
            }
        });
        Self { serving: serving.unwrap(), authority: None }
    }

    /// Speaks TLS with whoever comes, and plain HTTP with the registry, which knows nothing of it.
    pub(crate) fn tls(to: SocketAddr) -> Self {
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority_key = KeyPair::generate().unwrap();
        let pem = authority.self_signed(&authority_key).unwrap().pem();
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.subject_alt_names.push(SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &Issuer::new(authority, authority_key)).unwrap();
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], private)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let serving = Serving::start(move |listener| async move {
            while let Ok((client, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let (mut client, mut registry) =
                        (acceptor.accept(client).await?, TcpStream::connect(to).await?);
                    tokio::io::copy_bidirectional(&mut client, &mut registry).await
                });
            }
        });
        Self { serving: serving.unwrap(), authority: Some(pem) }
    }

    pub(crate) fn host(&self) -> String {
        self.serving.address().to_string()
    }
}

async fn cut(client: TcpStream, to: SocketAddr, after: usize, is_armed: &AtomicBool) -> io::Result<()> {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_registry, mut to_registry) = TcpStream::connect(to).await?.into_split();
    let back = tokio::spawn(async move { tokio::io::copy(&mut from_registry, &mut to_client).await });
    let sent = pass(&mut from_client, &mut to_registry, after, is_armed).await;
    if sent.is_err() {
        back.abort();
    }
    sent
}

async fn pass(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    after: usize,
    is_armed: &AtomicBool,
) -> io::Result<()> {
    let (mut passed, mut buffer) = (0, vec![0; 64 << 10]);
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..length]).await?;
        passed += length;
        if passed > after && is_armed.swap(false, Ordering::SeqCst) {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
    }
}
