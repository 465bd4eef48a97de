//! Discovery against an etcd that wants client certificates, and gets new ones.

use std::{fs, path::Path, sync::Arc, time::Duration};

use cluster::{
    Discovery as _, Me, Role,
    etcd::{Admin, EtcdDiscovery, EtcdMetrics, EtcdOptions, EtcdTls, Start},
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use stores::{Data, Etcd};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(folder: &Path) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        fs::write(folder.join("ca.pem"), authority.pem()).unwrap();
        Self(authority)
    }

    fn issue(&self, folder: &Path, name: &str) {
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.subject_alt_names.push(SanType::IpAddress([127, 0, 0, 1].into()));
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        fs::write(folder.join(format!("{name}.pem")), params.signed_by(&key, &self.0).unwrap().pem())
            .unwrap();
        fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_read_for_each_connection() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let authority = Authority::new(folder.path());
    authority.issue(folder.path(), "etcd");
    authority.issue(folder.path(), "node");
    let server = stores::EtcdTls { ca: at("ca.pem"), cert: at("etcd.pem"), key: at("etcd.key") };
    let etcd = Etcd::start_cluster(1, Some(server)).await.unwrap();
    let tls = EtcdTls { ca: at("ca.pem"), cert: at("node.pem"), key: at("node.key") };
    let options = EtcdOptions {
        lease: Duration::from_secs(2),
        tls: Some(tls),
        ..EtcdOptions::new(etcd.endpoints(), "test")
    };
    let start = Start { role: Role::Room, id: None, any_id: false, data: folder.path().to_owned() };
    let discovery = EtcdDiscovery::start(options.clone(), start, EtcdMetrics::default());
    let discovery = timeout(PATIENCE, discovery).await.unwrap().unwrap();
    let me = Arc::new(Me::new(Role::Room, discovery.id(), discovery.incarnation(), "z", None));
    discovery.join(me.clone()).await.unwrap();
    // A certificate of another CA is refused by etcd, so a new connection shows which one is used.
    let stranger = tempfile::tempdir().unwrap();
    Authority::new(stranger.path()).issue(stranger.path(), "node");
    let own = [fs::read(at("node.pem")).unwrap(), fs::read(at("node.key")).unwrap()];
    for name in ["node.pem", "node.key"] {
        fs::copy(stranger.path().join(name), at(name)).unwrap();
    }
    assert!(Admin::connect(options.clone()).await.is_err());
    fs::remove_file(at("node.key")).unwrap();
    let missing = Admin::connect(options.clone()).await.err().unwrap().to_string();
    assert!(missing.contains("node.key"), "{missing}");
    // The node has had no reason to connect again yet; now it has, and is refused until the files are good.
    etcd.member(0).kill().await.unwrap();
    etcd.member(0).start_again(Data::Keep).await.unwrap();
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(*discovery.lapses().borrow(), 0);
    assert_eq!(discovery.picture().borrow().nodes().len(), 1);
    fs::write(at("node.pem"), &own[0]).unwrap();
    fs::write(at("node.key"), &own[1]).unwrap();
    let mut lapses = discovery.lapses();
    timeout(PATIENCE, lapses.wait_for(|count| *count == 1)).await.unwrap().unwrap();
    let joined = me.info().joined;
    let mut picture = discovery.picture();
    let again = picture.wait_for(|p| p.nodes().first().is_some_and(|n| n.joined > joined));
    timeout(PATIENCE, again).await.unwrap().unwrap();
}
