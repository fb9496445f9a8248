//! The asynchronous pattern: `202` with a `Location` means "poll there".

use std::time::Duration;

use hyper::header;
use loom_expression::{Object, Value};

use super::{Answer, Behaviour, Progress, Requests, Spec};
use crate::{Failure, auth::Credentials, client::Reply, headers::Marks, url::Url};

/// How many transient failures of polls in a row are tolerated. The work itself is in progress, so the request is not
/// sent again because of them.
const FAILURES_MAX: i64 = 4;
/// The shortest wait between polls; a service that asks for none would otherwise fill a journal quickly.
const WAIT_MIN: Duration = Duration::from_millis(100);

impl Requests {
    /// Polls for the result of the work.
    pub(super) async fn poll(
        &self,
        spec: &Spec,
        marks: &Marks,
        behaviour: &Behaviour,
        resume: &Value,
    ) -> Result<Progress, Failure> {
        let address = resume.get("poll").and_then(Value::as_str);
        let address = address.ok_or_else(|| Failure::bad_request("The URL to poll is missing."))?;
        let url = Url::parse(address)?;
        let failures = resume.get("failures").and_then(Value::as_i64).unwrap_or(0);
        let request = self.follow_up(url.clone(), spec, marks, behaviour)?;
        let credentials = Credentials::from_value(&spec.authentication)?;
        let reply = match self.send(request, spec, &credentials).await {
            Ok(reply) => reply,
            Err(failure) if failure.transient && failures < FAILURES_MAX => {
                let outputs = Object::new();
                let answer = Answer {
                    status: 202,
                    outputs: outputs.into(),
                    after: None,
                    of_accepted: true,
                    learned: None,
                };
                return Ok(self.again(answer, &url, failures + 1));
            }
            Err(failure) => return Err(Failure { transient: false, ..failure }),
        };
        if reply.status == 202 {
            let next = match reply.header(header::LOCATION) {
                Some(location) => reply.url.join(location)?,
                None => url,
            };
            return self.pending(&reply, &next, 0).await;
        }
        let answer = self.answer(&reply).await?;
        if answer.is_transient() && failures < FAILURES_MAX {
            return Ok(self.again(answer, &url, failures + 1));
        }
        Ok(Progress::Final(Answer { of_accepted: true, ..answer }))
    }

    pub(super) async fn pending(&self, reply: &Reply, url: &Url, failures: i64) -> Result<Progress, Failure> {
        Ok(self.again(self.answer(reply).await?, url, failures))
    }

    fn again(&self, answer: Answer, url: &Url, failures: i64) -> Progress {
        // When the service names no wait, each failure in a row doubles it.
        let usual = self.settings.poll_interval * (1 << failures.clamp(0, 6));
        let after = answer.after.unwrap_or(usual).max(WAIT_MIN);
        let mut resume: Object = [("poll", Value::from(url.to_string()))].into_iter().collect();
        if failures > 0 {
            resume.insert("failures", failures);
        }
        Progress::Pending { answer, after, resume: resume.into() }
    }
}
