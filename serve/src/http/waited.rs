//! How long a request lay in the kernel before anybody here looked at it.
//!
//! Nothing else knows: under load a task that could read is one of many that are ready to run, and the clock of a request starts when it
//! runs. Linux alone tells; elsewhere the answer is `None`.

use std::time::Duration;

/// A connection's socket, as long as the connection owns it.
#[cfg(unix)]
pub type Socket = std::os::fd::RawFd;
/// The same where sockets have no numbers.
#[cfg(not(unix))]
pub type Socket = ();

/// The socket of a stream.
#[cfg(unix)]
pub fn socket(stream: &tokio::net::TcpStream) -> Socket {
    std::os::fd::AsRawFd::as_raw_fd(stream)
}

/// See above.
#[cfg(not(unix))]
pub fn socket(_: &tokio::net::TcpStream) -> Socket {}

/// How long ago the last bytes came on a TCP connection, to a few milliseconds (`tcpi_last_data_recv`, tcp(7)).
#[cfg(target_os = "linux")]
pub fn since_data(socket: Socket) -> Option<Duration> {
    // Of numbers alone: what the kernel does not fill in is 0.
    let mut told: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut size = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `size` bytes into `told`, which lives until the call is over. A number that is no TCP socket is
    // answered with an error.
    let answer = unsafe { libc::getsockopt(socket, libc::IPPROTO_TCP, libc::TCP_INFO, (&raw mut told).cast(), &raw mut size) };
    (answer == 0).then(|| Duration::from_millis(u64::from(told.tcpi_last_data_recv)))
}

/// See above.
#[cfg(not(target_os = "linux"))]
pub fn since_data(_: Socket) -> Option<Duration> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use tokio::{
        io::AsyncWriteExt,
        net::{TcpListener, TcpStream},
    };

    use super::*;

    #[tokio::test]
    async fn the_kernel_tells_how_long_bytes_have_been_there() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut caller = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        tokio::time::sleep(Duration::from_millis(60)).await;
        caller.write_all(b"GET").await.unwrap();
        tokio::time::sleep(Duration::from_millis(30)).await;
        let first = since_data(socket(&stream)).unwrap();
        assert!(first >= Duration::from_millis(20), "{first:?}");
        tokio::time::sleep(Duration::from_millis(60)).await;
        assert!(since_data(socket(&stream)).unwrap() >= first + Duration::from_millis(40));
        assert_eq!(since_data(-1), None);
    }
}
