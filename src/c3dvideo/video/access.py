"""Which inputs FFmpeg may open: protocols and file formats, by allow-list.

    check_url("rtsp://camera/1")                        # returns; DecodeError for "concat://a|b"
    av.open(url, container_options=open_options(url))   # and nothing that the input names in turn is opened beyond that

A video file can be a script: a playlist or a concat script names other files and addresses, and FFmpeg opens them.
Nothing else that a file or list names is opened, so that files of strangers are safe to read. SECURITY.md documents
the same for users.
"""

import errno
import re
from contextlib import suppress
from urllib.parse import quote

from c3dvideo.errors import DecodeError
from c3dvideo.storage import SCHEMES, Location, is_object

FILE_PROTOCOLS = ("http", "https", "ftp")
LIVE_PROTOCOLS = ("rtsp", "rtsps", "rtmp", "rtmps", "rtmpt", "rtmpts", "rtp", "srtp", "udp", "tcp", "srt", "mmsh")

# What those use themselves. Not among them: "file", and what names further inputs (concat, subfile, data, pipe).
_CARRIERS = (*FILE_PROTOCOLS, *LIVE_PROTOCOLS, "tls", "crypto", "httpproxy", "udplite", "rtcp", "ffrtmphttp", "mmst")

# Every video format that is one file, and the common audio formats, for which the error can then say what they are.
# Not among them: playlists and scripts (hls, dash, concat, sdp, imf), devices, numbered pictures (image2), and text,
# which FFmpeg would draw as a video (tty).
_FORMATS = (
    "3dostr,3g2,3gp,4xm,aac,ac3,aiff,alias_pix,amr,amv,anm,apng,apv,asf,asf_o,av1,avi,avr,avs,"
    "avs2,avs3,bethsoftvid,bfi,bink,bmp_pipe,bmv,c93,cavsvideo,cdg,cdxl,cine,dcstr,dfa,dhav,dirac,"
    "dnxhd,dpx_pipe,dsicin,dss,dv,dxa,ea,ea_cdata,evc,exr_pipe,film_cpk,filmstrip,fits,flac,flic,"
    "flv,frm,gdv,gem_pipe,gif,gxf,h261,h263,h264,hdr_pipe,hevc,hnm,ico,idcin,iff,ifv,ingenient,"
    "ipmovie,ipu,iss,iv8,ivf,ivr,j2k_pipe,jpeg_pipe,jpegls_pipe,jpegxl_anim,jpegxl_pipe,jv,kux,"
    "lmlm4,luodat,lvf,lxf,m4a,m4v,matroska,mgsts,mj2,mjpeg,mjpeg_2000,mlv,mm,mods,moflex,mov,mp3,"
    "mp4,mpeg,mpegts,mpegtsraw,mpegvideo,mtv,mv,mvi,mxf,mxg,nc,nsv,nut,nuv,obu,ogg,paf,pam_pipe,"
    "pbm_pipe,pcx_pipe,pgm_pipe,pgx_pipe,photocd_pipe,pictor_pipe,pmp,png_pipe,ppm_pipe,psd_pipe,"
    "psxstr,pva,pvf,qdraw_pipe,qoi_pipe,r3d,rl2,rm,roq,rpl,sdr2,ser,sga,sgi_pipe,siff,"
    "simbiosis_imx,smjpeg,smk,smush,sunrast_pipe,svag,swf,thp,tiertexseq,tiff_pipe,tmv,ty,usm,v210,"
    "v210x,vbn_pipe,vc1,vc1test,vividas,vivo,vmd,w64,wav,wc3movie,webm,webp_pipe,wtv,xbm_pipe,xmv,"
    "xpm_pipe,xwd_pipe,yop,yuv4mpegpipe"
)
# Playlists are allowed where everything that they name must come over the network, too.
_NETWORK_FORMATS = "hls,dash,webm_dash_manifest,rtsp,rtp,sdp,live_flv,mpjpeg"


# Parameters of addresses that are shown with their values: they choose a channel, a part or a form of a file.
_HARMLESS = frozenset(
    ("channel", "subtype", "stream", "part", "format", "quality", "resolution", "width", "height", "fps", "codec", "dl")
)
_PARAMETER = re.compile(r"([?&;])([^&;=#/]*)(=?)([^&;#]*)")
_SCHEMES = "|".join((*FILE_PROTOCOLS, *LIVE_PROTOCOLS, *SCHEMES))
# One slash where an address went through `Path`; each address ends where the next one begins.
_ADDRESS = re.compile(rf"(?:\b[a-z][a-z0-9+.-]*://|\b(?:{_SCHEMES}):/)(?:(?![a-z][a-z0-9+.-]*://)\S)*", re.IGNORECASE)
_SENT = "!#$%&'()*+,/:;=?@[]~"  # what stands in an address as it is
_BEHIND = re.compile(r"[\"'`;:,.)\]}>]*$")


def shown(address: str) -> str:
    """An address without what may be secret in it, for messages and for files.

    User, password and fragment are left out, and the values of all parameters but a few that are known as harmless.

    >>> shown("https://me:pass@host/a.mp4?part=2&X-Amz-Signature=0af3#t=4")
    'https://host/a.mp4?part=2&X-Amz-Signature=...'
    >>> shown("my_videos/a.mp4?token=1")
    'my_videos/a.mp4?token=1'
    """
    if not is_url(address):
        return address
    return _public(address)


def without_secrets(message: str) -> str:
    """A message in which every address is as `shown` returns it.

    >>> without_secrets("no such file or folder: 'http://me:pass@host/a.mp4?jwt=0af3'; check it")
    "no such file or folder: 'http://host/a.mp4?jwt=...'; check it"
    """
    if ":/" not in message:
        return message

    def public(match: re.Match[str]) -> str:
        end = _BEHIND.search(match[0])
        at = len(match[0]) if end is None else end.start()
        return _public(match[0][:at]) + match[0][at:]

    return _ADDRESS.sub(public, message)


def _public(address: str) -> str:
    scheme, slashes, rest = re.split(r"(:/+)", address, maxsplit=1)
    rest = without_user(rest)
    if scheme.lower() not in SCHEMES:  # a key of an object may hold the sign
        rest = rest.partition("#")[0]
    return scheme + slashes + _PARAMETER.sub(_hidden, rest)


def _hidden(parameter: re.Match[str]) -> str:
    separator, name, sign, value = parameter.groups()
    if not sign:  # a value without a name
        return f"{separator}..." if name else separator
    is_harmless = name.lower() in _HARMLESS and re.fullmatch(r"[\w.-]{,16}", value)
    return f"{separator}{name}={value if is_harmless or not value else '...'}"


def without_user(rest: str) -> str:
    """What follows "://" without user and password, also where "/", "?", "#" or "@" is part of the password.

    >>> without_user("me:pass@host:80/a@b.mp4"), without_user("me:pa/ss@host/a.mp4"), without_user("host/a@b.mp4")
    ('host:80/a@b.mp4', 'host/a.mp4', 'host/a@b.mp4')
    """
    found = re.match(r"[^/?#]*@|(?!\[)[^/?#@]*:(?!\d*(?:[/?#]|$)).*@", rest)
    return rest if found is None else rest[found.end() :]


def encoded(url: str) -> str:
    """An http address as it is sent: spaces and letters beyond ASCII in their percent encoding, as browsers do.

    >>> encoded("http://münchen.example/Fußball 1%20.mp4?q=ü")
    'http://xn--mnchen-3ya.example/Fu%C3%9Fball%201%20.mp4?q=%C3%BC'
    """
    if (url.isascii() and " " not in url) or _protocol(url) not in ("http", "https"):
        return url
    host, rest = re.fullmatch(r"(\w+://[^/?#]*)(.*)", url, re.DOTALL).groups()  # type: ignore[union-attr]
    with suppress(UnicodeError):  # no name of a host: the reason comes from who looks it up
        scheme, _, name = host.partition("://")
        user, sign, name = name.rpartition("@")
        host = f"{scheme}://{quote(user, safe=_SENT)}{sign}{name if name.isascii() else name.encode('idna').decode()}"
    return host + quote(rest, safe=_SENT, errors="surrogateescape")


def is_url(path: str) -> bool:
    """Whether `path` is an address, such as rtsp://camera/1, and not a file."""
    return re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*://", path) is not None


def is_live(url: str, demuxer: str) -> bool:
    """Whether losses are to be expected: `url` is a camera or broadcast, not a file on a server."""
    return _protocol(url) in (*LIVE_PROTOCOLS, "file") or demuxer in _NETWORK_FORMATS.split(",")


def check_kind(path: Location) -> None:
    """Raises DecodeError for what does not exist, and for pipes and devices, which may block for ever."""
    if not path.exists():
        raise DecodeError("no such file") from FileNotFoundError(errno.ENOENT, "no such file", str(path))
    if not path.is_file():
        kind = "a named pipe" if path.is_fifo() else "a device or socket"
        raise DecodeError(f"it is {kind}, which may never end; save what it delivers as a file and read that")


def check_url(url: str) -> None:
    """Raises DecodeError for an address whose protocol is not allowed."""
    if _protocol(url) not in ("file", *FILE_PROTOCOLS, *LIVE_PROTOCOLS):
        raise DecodeError(
            f"addresses of the protocol {_protocol(url)!r} are not opened; allowed are files, "
            f"{', '.join((*FILE_PROTOCOLS, *LIVE_PROTOCOLS))}"
        )


def open_options(url: str) -> dict[str, str]:
    """FFmpeg's options that hold `url`, and everything that its content names, to the allow-lists."""
    if is_object(url):  # what is read comes from us and not from FFmpeg, which opens nothing
        return {"protocol_whitelist": "none", "format_whitelist": _FORMATS}
    if _protocol(url) == "file":
        return {"protocol_whitelist": "file", "format_whitelist": _FORMATS}
    options = {
        "protocol_whitelist": ",".join(_CARRIERS),
        "format_whitelist": f"{_FORMATS},{_NETWORK_FORMATS}",
    }
    # Over TCP no packet is lost; a camera that only sends UDP is still read.
    return options | ({"rtsp_flags": "prefer_tcp"} if _protocol(url) in ("rtsp", "rtsps") else {})


def _protocol(url: str) -> str:
    return url.partition(":")[0].lower()
