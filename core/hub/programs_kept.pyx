"""The names a store knows and the programs it keeps: `DeclareSchema`, `SaveProgram`, `ActivateProgram`, `SetBands`."""

import msgspec

from core.hub.apply cimport Applier
from core.hub.values cimport check_time

from core import limits
from core.errors import BadValue, NotFound, TooLarge
from core.hub.apply import register
from core.hub.mutations import ActivateProgram, DeclareSchema, SaveProgram, SetBands
from core.hub.saved import ACTIVE, BANDS, ActiveProgram, SavedProgram, image_key, program_key, sources_key


def _declare_schema(Applier applier, mutation):
    grown = applier.catalog.declared(mutation.schema, mutation.offers, mutation.channels)
    if grown is not applier.catalog:
        applier.set_catalog(grown)
    return grown


def _save_program(Applier applier, mutation):
    cdef unsigned int programs = applier.environment.handles.programs
    check_time("at", mutation.at_us)
    if not mutation.name or len(mutation.name) > limits.NAME_LENGTH or "/" in mutation.name:
        raise BadValue("program: name", f"'{mutation.name[:80]}' is empty, longer than {limits.NAME_LENGTH} "
                       "characters, or holds a '/'")
    version = 1
    while True:
        data = applier.stored(programs, program_key(mutation.name, version))
        if data is None:
            break
        header = msgspec.msgpack.decode(data, type=SavedProgram)
        if header.digest == mutation.digest:
            break
        version += 1
    if data is None:
        total = sum([len(source) for source in mutation.sources.values()])
        if total > limits.PROGRAM_BYTES:
            raise TooLarge("program: bytes of its sources", total, limits.PROGRAM_BYTES)
        header = SavedProgram(mutation.name, version, mutation.digest, mutation.at_us)
        applier.programs[sources_key(mutation.name, version)] = msgspec.msgpack.encode(mutation.sources)
    if mutation.image:
        header = msgspec.structs.replace(header, compiler=mutation.compiler)
        applier.programs[image_key(mutation.name, version)] = mutation.image
        _drop_images(applier, mutation.name, version - limits.PROGRAM_IMAGES)
    applier.programs[program_key(mutation.name, version)] = msgspec.msgpack.encode(header)
    return version


cdef int _drop_images(Applier applier, str name, int version) except -1:
    """Delete the images of this version and of those before it, but of what decides and what did before: their sources stay."""
    cdef unsigned int programs = applier.environment.handles.programs
    data = applier.stored(programs, ACTIVE)
    active = None if data is None else msgspec.msgpack.decode(data, type=ActiveProgram)
    needed = set() if active is None else {(active.name, active.version), active.before}
    while version > 0:
        if (name, version) not in needed:
            if applier.stored(programs, image_key(name, version)) is None:
                break
            applier.programs[image_key(name, version)] = None
            header = msgspec.msgpack.decode(applier.stored(programs, program_key(name, version)), type=SavedProgram)
            applier.programs[program_key(name, version)] = msgspec.msgpack.encode(msgspec.structs.replace(header, compiler=""))
        version -= 1
    return 0


def _activate_program(Applier applier, mutation):
    cdef unsigned int programs = applier.environment.handles.programs
    check_time("at", mutation.at_us)
    if applier.stored(programs, program_key(mutation.name, mutation.version)) is None:
        raise NotFound("program version", f"{mutation.name}@{mutation.version}",
                       "List the versions kept: rapport program list.")
    data = applier.stored(programs, ACTIVE)
    before = None
    if data is not None:
        active = msgspec.msgpack.decode(data, type=ActiveProgram)
        same = (active.name, active.version) == (mutation.name, mutation.version)
        before = active.before if same else (active.name, active.version)
    applier.programs[ACTIVE] = msgspec.msgpack.encode(
        ActiveProgram(mutation.name, mutation.version, mutation.at_us, before))


def _set_bands(Applier applier, mutation):
    applier.metas[BANDS] = msgspec.msgpack.encode(mutation.bands)


register(DeclareSchema, _declare_schema)
register(SaveProgram, _save_program)
register(ActivateProgram, _activate_program)
register(SetBands, _set_bands)
