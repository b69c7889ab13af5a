"""One mail over SMTP: STARTTLS or TLS before anything is said, bounded time, errors translated at the door."""

from __future__ import annotations

import smtplib
import ssl
from email.message import EmailMessage
from email.utils import formatdate

from keyturn import boundary
from keyturn.errors import InvalidInput, NotPermitted, UnexpectedAnswer, VendorUnavailable
from keyturn.model.post import Post

_TIMEOUT_S = 20.0


def send(
    post: Post, to: str, subject: str, text: str, message_id: str, *, headers: dict[str, str] | None = None
) -> str:
    """Hands one mail to the server; what it said, for the record. `message_id` is the same for the same mail, so that a
    repetition can be told.

    Raises: InvalidInput for an address it refuses, NotPermitted when it refuses us, VendorUnavailable (try later),
    UnexpectedAnswer.
    """
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = post.sender, to, subject
    message["Date"] = formatdate(usegmt=True)
    message["Message-ID"] = f"<{message_id}@{post.sender.rpartition('@')[2] or 'keyturn'}>"
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody's holiday notice answers
    for name, value in (headers or {}).items():
        message[name] = value
    message.set_content(text)
    boundary.leaving(post.host)
    context = ssl.create_default_context()
    try:
        if post.tls == "tls":
            server: smtplib.SMTP = smtplib.SMTP_SSL(post.host, post.port, timeout=_TIMEOUT_S, context=context)
        else:
            server = smtplib.SMTP(post.host, post.port, timeout=_TIMEOUT_S)
        with server:
            if post.tls == "starttls":
                server.starttls(context=context)
            if post.user and post.tls != "none":
                server.login(post.user, post.password)
            server.send_message(message)
    except smtplib.SMTPRecipientsRefused as error:
        code = next((answer[0] for answer in error.recipients.values()), 550)
        if 400 <= code < 500:
            raise _later(post, f"asks to try later ({code})") from None
        raise InvalidInput(f"{post.host} refuses this address ({code})", field="address") from None
    except (smtplib.SMTPAuthenticationError, smtplib.SMTPSenderRefused) as error:
        raise NotPermitted(
            f"{post.host} refuses us ({error.smtp_code})", hint="Check KEYTURN_SMTP_URL and its password."
        ) from None
    except smtplib.SMTPNotSupportedError:
        raise NotPermitted(
            f"{post.host} offers no STARTTLS or no login", hint="Nothing is sent without TLS."
        ) from None
    except smtplib.SMTPResponseException as error:
        if 400 <= error.smtp_code < 500:
            raise _later(post, f"asks to try later ({error.smtp_code})") from None
        raise UnexpectedAnswer(f"{post.host} answers {error.smtp_code}", host=post.host) from None
    except ssl.SSLError:
        raise _later(post, "failed the TLS check") from None
    except (OSError, smtplib.SMTPException) as error:
        raise _later(post, f"gives no answer ({type(error).__name__})") from None
    return "accepted"


def _later(post: Post, what: str) -> VendorUnavailable:
    return VendorUnavailable(f"{post.host} {what}", hint="It is tried again later.", host=post.host)
