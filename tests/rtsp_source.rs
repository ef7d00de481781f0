//! `rtsp://` against a small server on this machine: pictures arrive with rising times, and a stream that breaks off or
//! falls silent is reported as lost.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "common/mod.rs"]
mod common;

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kinora::ErrorKind;
use kinora::capture::{Captured, Options, open};
use kinora::frame::Frame;
use kinora::stop::Stop;

/// What the server does after it has sent for two seconds.
#[derive(Clone, Copy)]
enum Then {
    GoOn,
    Close,
    FallSilent,
}

/// A child that does not outlive the test.
struct Encoder(Child);

impl Drop for Encoder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Serves any number of clients on a port of its own, whose URL it returns.
fn serve(then: Then) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("rtsp://user:secret@{}/camera", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            std::thread::spawn(move || {
                // The client hangs up when it likes, which is no failure.
                let _ = converse(client, then);
            });
        }
    });
    url
}

/// Answers a client's requests; after PLAY, sends it the packets that ffmpeg makes.
fn converse(mut client: TcpStream, then: Then) -> std::io::Result<()> {
    const SDP: &str = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=test\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\n\
                       m=video 0 RTP/AVP 32\r\na=control:track\r\n";
    let mut requests = BufReader::new(client.try_clone()?).lines();
    loop {
        let (mut method, mut number) = (String::new(), String::new());
        for line in requests.by_ref() {
            let line = line?;
            if method.is_empty() {
                method = line.split(' ').next().unwrap_or_default().to_string();
            } else if let Some(value) = line.strip_prefix("CSeq: ") {
                number = value.to_string();
            } else if line.is_empty() {
                break;
            }
        }
        let head = format!("RTSP/1.0 200 OK\r\nCSeq: {number}\r\n");
        let rest = match method.as_str() {
            "" => return Ok(()),
            "DESCRIBE" => format!("Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{SDP}", SDP.len()),
            "SETUP" => "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n\r\n".to_string(),
            "PLAY" => "Session: 1\r\n\r\n".to_string(),
            _ => "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n\r\n".to_string(),
        };
        client.write_all((head + &rest).as_bytes())?;
        if method == "PLAY" {
            return send(&mut client, then);
        }
    }
}

fn send(client: &mut TcpStream, then: Then) -> std::io::Result<()> {
    let packets = UdpSocket::bind("127.0.0.1:0")?;
    packets.set_read_timeout(Some(Duration::from_secs(10)))?;
    let to = format!("rtp://{}?pkt_size=1200", packets.local_addr()?);
    // It ends by itself, as the test program does not wait for this thread.
    let source = "-nostdin -v error -re -f lavfi -i testsrc2=size=160x120:rate=15:duration=15";
    let coding = "-c:v mpeg2video -r 25 -g 5 -bf 0 -f rtp";
    let mut command = Command::new("ffmpeg");
    command.args(source.split(' ')).args(coding.split(' ')).arg(to).stdout(Stdio::null()).stderr(Stdio::null());
    let _encoder = Encoder(command.spawn()?);
    let (begun, mut packet) = (Instant::now(), [0; 2048]);
    loop {
        let length = packets.recv(&mut packet)?;
        if begun.elapsed() > Duration::from_secs(2) {
            match then {
                Then::GoOn => {}
                Then::Close => return Ok(()),
                Then::FallSilent => {
                    std::thread::sleep(Duration::from_secs(12));
                    return Ok(());
                }
            }
        }
        client.write_all(&[b'$', 0, (length >> 8) as u8, length as u8])?;
        client.write_all(&packet[..length])?;
    }
}

#[test]
fn pictures_of_a_stream_arrive_with_rising_times() {
    let url = serve(Then::GoOn);
    let stop = Stop::default();
    let mut source = open(&url, &Options::default(), &stop).unwrap();
    let info = source.info().clone();
    assert!(info.live && !info.name.contains("secret"), "{info:?}");
    assert_eq!((info.width, info.height, info.frame_rate), (160, 120, 25.0));
    let (mut frame, mut times) = (Frame::default(), Vec::new());
    for n in 0..25 {
        assert_eq!(source.next_frame(&mut frame).unwrap(), Captured::Frame);
        assert_eq!(frame.sequence, n);
        assert!(frame.captured.elapsed() < Duration::from_secs(1));
        times.push(frame.timestamp);
    }
    assert!(times[0].is_zero() && times.is_sorted(), "{times:?}");
    assert!(times[24] > Duration::from_millis(300), "{times:?}");
    stop.request();
    assert_eq!(source.next_frame(&mut frame).unwrap(), Captured::End);
}

#[test]
fn a_stream_that_breaks_off_or_falls_silent_is_lost() {
    for (then, fragment) in [(Then::Close, "the stream has ended"), (Then::FallSilent, "no picture for 5 s")] {
        let mut source = open(&serve(then), &Options::default(), &Stop::default()).unwrap();
        let mut frame = Frame::default();
        let error = loop {
            match source.next_frame(&mut frame) {
                Ok(Captured::Frame) => {}
                Ok(Captured::End) => panic!("ended"),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::SourceLost);
        let message = error.to_string();
        assert!(message.starts_with("rtsp://***@127.0.0.1:") && message.contains(fragment), "{message}");
        assert_eq!(source.next_frame(&mut frame).unwrap(), Captured::End);
    }
}

/// What is looked for in an event line.
#[derive(Debug, serde::Deserialize)]
struct Line {
    #[serde(rename = "type")]
    kind: String,
    state: Option<String>,
    reason: Option<String>,
    t: f64,
    frame: Option<u64>,
}

#[test]
fn the_program_reconnects_and_recognizes_again() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    common::tiny(&model);
    let mut kinora = Command::new(env!("CARGO_BIN_EXE_kinora"))
        .args(["--display", "none", "--events", "-", "--duration", "60", "--source", &serve(Then::Close), "--model"])
        .arg(&model)
        .stdout(Stdio::piped())
        .spawn()
        .map(Encoder)
        .unwrap();
    let lines = BufReader::new(kinora.0.stdout.take().unwrap()).lines();
    let (mut seen, mut states) = (Vec::new(), Vec::new());
    for line in lines {
        let line: Line = serde_json::from_str(&line.unwrap()).unwrap();
        if line.kind == "source" {
            states.push(line.state.clone().unwrap());
        }
        // Lost and back, twice, and an action after each.
        let again = states.len() == 4 && line.kind == "start";
        seen.push(line);
        if again {
            break;
        }
    }
    assert_eq!(states, ["lost", "back", "lost", "back"], "{seen:#?}");
    let reason = seen.iter().find_map(|line| line.reason.clone()).unwrap();
    assert!(reason.contains("the stream has ended") && !reason.contains("secret"), "{reason}");
    assert!(seen.is_sorted_by(|a, b| a.t <= b.t), "{seen:#?}");
    let frames: Vec<u64> = seen.iter().filter_map(|line| line.frame).collect();
    assert!(frames.is_sorted(), "{frames:?}");
}
