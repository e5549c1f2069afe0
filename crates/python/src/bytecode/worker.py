# Compiles Python sources to unchecked-hash bytecode files (PEP 552), one job after the other.
#
# Says once: b"<major> <minor> <micro> <cache tag>\n".
# Reads:     path length, source length (two big-endian uint32), path, source.
# Answers:   1 and a length (uint8, uint32), then the .pyc, for what compiles; 0 and 0 for what does not.
# Ends when its input ends. Python 3.9 to 3.14; imports nothing that is not in memory already or built in.
import sys
import _frozen_importlib_external as external
import _imp
import gc
import marshal
import _struct
import _warnings

# Code objects make no garbage in circles.
gc.disable()
_warnings.filters.insert(0, ("ignore", None, Warning, None, 0))
getattr(_warnings, "_filters_mutated_lock_held", getattr(_warnings, "_filters_mutated", None))()

RAW_MAGIC = getattr(external, "_RAW_MAGIC_NUMBER", None)
if RAW_MAGIC is None:
    RAW_MAGIC = _imp.pyc_magic_number_token
# Flags: bit 0, the hash of the source stands instead of its time; bit 1 unset, it is not compared.
HEADER = external.MAGIC_NUMBER + _struct.pack("<I", 1)

read = sys.stdin.buffer.read
write = sys.stdout.buffer.write
flush = sys.stdout.buffer.flush

write(b"%d %d %d %s\n" % (*sys.version_info[:3], sys.implementation.cache_tag.encode()))
flush()
while True:
    head = read(8)
    if len(head) < 8:
        break
    path_length, source_length = _struct.unpack(">II", head)
    path = read(path_length).decode()
    source = read(source_length)
    try:
        body = marshal.dumps(compile(source, path, "exec", 0, True, 0))
    except Exception:
        # What importing it would raise too, or near to it. `compileall` goes on as well.
        write(b"\0\0\0\0\0")
    else:
        write(_struct.pack(">BI", 1, len(body) + 16))
        write(HEADER)
        write(_imp.source_hash(RAW_MAGIC, source))
        write(body)
    flush()
