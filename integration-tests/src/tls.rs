/// Files for a broker that lets in only clients with a certificate.
#[derive(Clone, Debug)]
pub struct ServerTls {
    /// The authority that signs the certificates of clients.
    pub ca: String,
    /// The broker's own certificate.
    pub certificate: String,
    /// The key of that certificate.
    pub key: String,
}
