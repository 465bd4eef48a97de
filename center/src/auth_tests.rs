use super::*;

fn grant() -> Grant {
    Grant { app: AppId(7), scopes: Scopes::default().with(Scope::Push) }
}

fn cache() -> KeyCache {
    KeyCache::new(AuthConfig { cached_keys: 4, ..AuthConfig::default() })
}

/// A saver that counts how often it is asked.
#[derive(Default)]
struct Saver {
    asked: AtomicUsize,
}

impl Saver {
    async fn answer(&self, answer: Result<Option<Grant>>) -> Result<Option<Grant>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        tokio::task::yield_now().await;
        answer
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

#[test]
fn bearer_takes_the_scheme_in_any_case_and_nothing_else() {
    let of = |text: &'static str| bearer(Some(&http::HeaderValue::from_static(text))).map(str::to_owned).ok();
    assert_eq!(of("Bearer lwk_x").as_deref(), Some("lwk_x"));
    assert_eq!(of("bearer  lwk_x ").as_deref(), Some("lwk_x"));
    assert_eq!(of("Basic lwk_x"), None);
    assert_eq!(of("Bearer "), None);
    assert_eq!(of("lwk_x"), None);
    assert!(matches!(bearer(None), Err(Error::NoKey)));
}

#[test]
fn scopes_are_a_set_and_unknown_names_grant_nothing() {
    let scopes = Scopes::from_names(&["read", "everything"]);
    assert!(scopes.has(Scope::Read));
    assert!(!scopes.has(Scope::Push) && !scopes.has(Scope::Admin));
    let refused = Grant { app: AppId(1), scopes }.needs(Scope::Admin);
    assert!(matches!(refused, Err(Error::Scope(Scope::Admin))));
}

#[tokio::test(start_paused = true)]
async fn a_saver_is_asked_once_per_key_and_again_after_the_ttl() {
    let (cache, saver) = (cache(), Saver::default());
    let hash = hash_key("lwk_a");
    let both = tokio::join!(
        cache.get(hash, |_| saver.answer(Ok(Some(grant())))),
        cache.get(hash, |_| saver.answer(Ok(Some(grant())))),
    );
    assert_eq!((both.0.unwrap(), both.1.unwrap()), (grant(), grant()));
    assert_eq!(saver.asked(), 1);

    tokio::time::advance(cache.limits.key_ttl).await;
    cache.get(hash, |_| saver.answer(Ok(Some(grant())))).await.unwrap();
    assert_eq!(saver.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_key_is_remembered_for_a_moment() {
    let (cache, saver) = (cache(), Saver::default());
    let hash = hash_key("lwk_a");
    for _ in 0..3 {
        let refused = cache.get(hash, |_| saver.answer(Ok(None))).await;
        assert!(matches!(refused, Err(Error::BadKey)));
    }
    assert_eq!(saver.asked(), 1);
    tokio::time::advance(cache.limits.unknown_key_ttl).await;
    cache.get(hash, |_| saver.answer(Ok(Some(grant())))).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_key_that_was_good_outlives_a_saver_that_is_away_but_not_its_removal() {
    let (cache, saver) = (cache(), Saver::default());
    let hash = hash_key("lwk_a");
    cache.get(hash, |_| saver.answer(Ok(Some(grant())))).await.unwrap();

    tokio::time::advance(cache.limits.key_ttl).await;
    cache.get(hash, |_| saver.answer(Err(Error::Full("test")))).await.unwrap();

    tokio::time::advance(Duration::from_millis(RENEWAL_MS)).await;
    let refused = cache.get(hash, |_| saver.answer(Ok(None))).await;
    assert!(matches!(refused, Err(Error::BadKey)));

    tokio::time::advance(cache.limits.unknown_key_ttl).await;
    let unknown = cache.get(hash, |_| saver.answer(Err(Error::Full("test")))).await;
    assert!(matches!(unknown, Err(Error::Full(_))), "a removed key has no grace");
}

#[tokio::test(start_paused = true)]
async fn made_up_keys_do_not_drive_out_known_ones_and_both_are_bounded() {
    let (cache, saver) = (cache(), Saver::default());
    let hash = hash_key("lwk_a");
    cache.get(hash, |_| saver.answer(Ok(Some(grant())))).await.unwrap();
    for n in 0..100 {
        let _ = cache.get(hash_key(&n.to_string()), |_| saver.answer(Ok(None))).await;
    }
    let before = saver.asked();
    cache.get(hash, |_| saver.answer(Ok(None))).await.unwrap();
    assert_eq!(saver.asked(), before);
    assert!(read(&cache.unknown).len() <= 4);
    for n in 0..100 {
        let _ = cache.get(hash_key(&format!("k{n}")), |_| saver.answer(Ok(Some(grant())))).await;
    }
    assert!(read(&cache.known).len() <= 4);
}
