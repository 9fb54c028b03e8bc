"""Takes secrets out of text before anybody sees it: log lines, the tail of a job's output, error messages."""

import re
from collections.abc import Iterable

HIDDEN = "[redacted]"

_PATTERNS = (
    re.compile(r"(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"),  # https://user:password@host
    re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),  # AWS access key ids
    re.compile(r"(?i)(?<=authorization: )\S.*"),
    re.compile(r"(?i)(?<=x-amz-signature=)[0-9a-f]+"),
    re.compile(r"(?i)(?<=x-amz-security-token=)[^&\s]+"),
    re.compile(r"\b(?:ghp|gho|ghs|github_pat|hf|sk|xox[abp])[_-][A-Za-z0-9_-]{16,}"),  # tokens of well-known services
    re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL),
)
_ASSIGNMENT = re.compile(
    r"""(?ix) ( [\w.-]* (?:secret|token|password|passwd|api_?key|access_?key|private_?key) [\w.-]* ["']? \s* [=:] \s* )
        (?: "[^"]*" | '[^']*' | [^\s,;&}]+ )"""
)


class Redactor:
    """Replaces known secret values and everything that looks like one."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        # Longest first: a secret that contains another one must go as a whole.
        self._secrets = sorted({secret for secret in secrets if len(secret) >= 4}, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        for pattern in _PATTERNS:
            text = pattern.sub(HIDDEN, text)
        return _ASSIGNMENT.sub(lambda match: match.group(1) + HIDDEN, text)
