use super::*;

#[tokio::test(start_paused = true)]
async fn a_failed_accept_is_followed_by_a_pause() {
    let errors = tokio_stream::iter((0..3).map(|_| Err::<(), _>(io::Error::from_raw_os_error(24))));
    let start = tokio::time::Instant::now();
    assert_eq!(paced(errors).collect::<Vec<_>>().await.len(), 3);
    assert_eq!(start.elapsed(), 3 * ACCEPT_PAUSE);
}
