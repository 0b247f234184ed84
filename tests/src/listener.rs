//! A port of the double of Azure, or of the proxy before an API server: a certificate of its own authority, TLS or plain TCP, and connections that can be cut without an answer.
//! I/O: loopback TCP.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    extract::connect_info::Connected,
    serve::{IncomingStream, Listener},
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinHandle,
    time,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::aws_lc_rs, pki_types::PrivateKeyDer},
    server::TlsStream,
};

/// Accepts, shakes hands, and hands over what is ready.
pub(crate) struct Port {
    address: SocketAddr,
    ready: mpsc::Receiver<(Wire, SocketAddr)>,
    accepting: JoinHandle<()>,
}

/// A connection.
pub(crate) struct Wire {
    stream: Stream,
    cut: Cut,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Cuts its connection: whatever is answered on it is lost.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cut(Arc<AtomicBool>);

impl Cut {
    pub(crate) fn now(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Connected<IncomingStream<'_, Port>> for Cut {
    fn connect_info(stream: IncomingStream<'_, Port>) -> Self {
        stream.io().cut.clone()
    }
}

impl Port {
    /// Listens on a loopback port (0: any), with TLS if there is a certificate.
    pub(crate) async fn open(port: u16, tls: Option<TlsAcceptor>) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        let address = listener.local_addr()?;
        let (sender, ready) = mpsc::channel(64);
        let accepting = tokio::spawn(async move {
            loop {
                let Ok((stream, from)) = listener.accept().await else {
                    time::sleep(Duration::from_millis(10)).await;
                    continue;
                };
                // Answers are small: nobody waits for more of them.
                let _ = stream.set_nodelay(true);
                let (sender, tls) = (sender.clone(), tls.clone());
                tokio::spawn(async move {
                    let stream = match tls {
                        None => Stream::Plain(stream),
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => Stream::Tls(Box::new(stream)),
                            // Whoever does not trust us goes away.
                            Err(_) => return,
                        },
                    };
                    let _ = sender.send((Wire { stream, cut: Cut::default() }, from)).await;
                });
            }
        });
        Ok(Self { address, ready, accepting })
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Listener for Port {
    type Io = Wire;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Wire, SocketAddr) {
        match self.ready.recv().await {
            Some(ready) => ready,
            // It was dropped: nobody comes any more.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

impl Wire {
    fn stream(self: Pin<&mut Self>) -> io::Result<Pin<&mut Stream>> {
        let wire = self.get_mut();
        if wire.cut.0.load(Ordering::Relaxed) {
            // Whoever gets the error closes it, and its closing is a reset.
            let tcp = match &wire.stream {
                Stream::Plain(stream) => stream,
                Stream::Tls(stream) => stream.get_ref().0,
            };
            tcp.set_zero_linger()?;
            return Err(io::Error::new(io::ErrorKind::ConnectionReset, "cut"));
        }
        Ok(Pin::new(&mut wire.stream))
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.stream()?.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.stream()?.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.stream()?.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(context),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.stream()?.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(context),
        }
    }
}

/// The authority's certificate in PEM, and what shows a certificate of it for 127.0.0.1 and localhost.
pub(crate) fn authority() -> (String, TlsAcceptor) {
    let authority_key = KeyPair::generate().expect("a key can be made");
    let mut authority = CertificateParams::new(Vec::new()).expect("no names are right names");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    authority.distinguished_name.push(DnType::CommonName, "azure double");
    let certificate = authority.self_signed(&authority_key).expect("a certificate can be made");
    let issuer = Issuer::new(authority, authority_key);
    let mut server = CertificateParams::new(["localhost".to_owned()]).expect("DNS names");
    server.subject_alt_names.push(SanType::IpAddress("127.0.0.1".parse().expect("an address")));
    // Python's OpenSSL wants it.
    server.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate().expect("a key can be made");
    let signed = server.signed_by(&key, &issuer).expect("a certificate can be signed");
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("the key was made so");
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has them")
        .with_no_client_auth()
        .with_single_cert(vec![signed.der().clone()], key)
        .expect("the certificate was made for the key");
    (certificate.pem(), TlsAcceptor::from(Arc::new(config)))
}
