//! What a CA signs, and for whom.

use std::collections::BTreeSet;

use cluster::{Role, tls::name_of};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, string::Ia5String,
};
use time::{Duration, OffsetDateTime};
use x509_parser::{extensions::GeneralName, pem::parse_x509_pem};

/// Nodes whose clocks are behind must take a new certificate too.
const BACKDATED: Duration = Duration::days(1);
/// Names that the examples and the compose file give to etcd's members.
const ETCD_HOSTS: [&str; 5] = ["localhost", "127.0.0.1", "etcd-1", "etcd-2", "etcd-3"];

/// A certificate's validity.
#[derive(Clone, Copy, Debug)]
pub(super) struct Days(pub u32);

impl Days {
    fn end(self) -> OffsetDateTime {
        OffsetDateTime::now_utc() + Duration::days(i64::from(self.0))
    }

    pub(super) fn end_date(self) -> String {
        self.end().date().to_string()
    }
}

/// One certificate to be made.
pub(super) struct Profile {
    /// Name of its files, without what follows the dot.
    pub(super) file: &'static str,
    /// What it is for, for people.
    pub(super) purpose: String,
    names: Vec<String>,
    usages: Vec<ExtendedKeyUsagePurpose>,
}

/// All certificates of a cluster; `hosts` are further names of etcd's members.
pub(super) fn certificates(hosts: &BTreeSet<String>) -> Vec<Profile> {
    use ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
    let nodes = Role::ALL.map(|role| Profile {
        file: role.as_str(),
        purpose: format!("nodes of the {role} ({})", name_of(role)),
        names: vec![name_of(role)],
        usages: vec![ServerAuth, ClientAuth],
    });
    let operator = Profile {
        file: "operator",
        purpose: "the command line: `longwire config` and `longwire node`".to_owned(),
        names: vec!["operator.longwire.internal".to_owned()],
        usages: vec![ClientAuth],
    };
    let mut names: Vec<_> = ETCD_HOSTS.map(str::to_owned).into();
    names.extend(hosts.iter().filter(|h| !ETCD_HOSTS.contains(&h.as_str())).cloned());
    let etcd = Profile {
        file: "etcd",
        purpose: format!("etcd, for clients and among its members ({})", names.join(", ")),
        names,
        usages: vec![ServerAuth, ClientAuth],
    };
    nodes.into_iter().chain([operator, etcd]).collect()
}

/// A CA that can sign.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    fresh: bool,
}

impl Authority {
    /// A new one.
    pub(super) fn new(days: Days) -> Result<Self, rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = params(Vec::new(), days)?;
        // Two CAs of one name would be told apart by a bad signature only.
        let id = hex::encode(&params.key_identifier(&key)[..4]);
        params.distinguished_name.push(DnType::CommonName, format!("Longwire CA {id}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), pem, fresh: true })
    }

    /// The one that these texts hold.
    pub(super) fn read(pem: &str, key: &str) -> Result<Self, String> {
        let key = KeyPair::from_pem(key).map_err(|e| format!("ca.key holds no key: {e}"))?;
        let der = x509_parser::pem::parse_x509_pem(pem.as_bytes());
        let (_, der) = der.map_err(|e| format!("ca.pem holds no certificate: {e}"))?;
        let certificate = der.parse_x509().map_err(|e| format!("ca.pem holds no certificate: {e}"))?;
        if certificate.public_key().subject_public_key.data != key.public_key_raw() {
            return Err("ca.key is not the key of ca.pem".to_owned());
        }
        let issuer = Issuer::from_ca_cert_pem(pem, key).map_err(|e| format!("ca.pem is no CA: {e}"))?;
        Ok(Self { issuer, pem: pem.to_owned(), fresh: false })
    }

    pub(super) fn pem(&self) -> &str {
        &self.pem
    }

    /// The key, if nobody has it yet.
    pub(super) fn new_key(&self) -> Option<String> {
        self.fresh.then(|| self.issuer.key().serialize_pem())
    }

    /// Certificate and key, PEM.
    pub(super) fn issue(&self, profile: &Profile, days: Days) -> Result<(String, String), String> {
        let usable = |name: &String| match Ia5String::try_from(name.as_str()) {
            Ok(_) if !name.is_empty() && !name.contains(char::is_whitespace) => Ok(()),
            _ => Err(format!("{name:?} is no name of a host")),
        };
        profile.names.iter().try_for_each(usable)?;
        let fail = |e: rcgen::Error| format!("cannot make the certificate of {}: {e}", profile.file);
        let mut params = params(profile.names.clone(), days).map_err(fail)?;
        params.distinguished_name.push(DnType::CommonName, profile.names[0].as_str());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages.clone_from(&profile.usages);
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(fail)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(fail)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }
}

fn params(names: Vec<String>, days: Days) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.not_before = OffsetDateTime::now_utc() - BACKDATED;
    params.not_after = days.end();
    Ok(params)
}

/// The names that a certificate is for; `None` if the text holds none.
pub(super) fn names(pem: &str) -> Option<BTreeSet<String>> {
    let (_, der) = parse_x509_pem(pem.as_bytes()).ok()?;
    let certificate = der.parse_x509().ok()?;
    let names = certificate.subject_alternative_name().ok()??.value;
    let names = names.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|b| std::net::Ipv4Addr::from(b).to_string()),
            _ => <[u8; 16]>::try_from(*bytes).ok().map(|b| std::net::Ipv6Addr::from(b).to_string()),
        },
        _ => None,
    });
    Some(names.collect())
}
