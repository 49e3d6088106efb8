/* emulator.h -- what sandboxd and berth-qemu agree on. */
#ifndef CLONE_EMULATOR_H
#define CLONE_EMULATOR_H

#define EMULATOR_QEMU        "/usr/bin/qemu-system-x86_64"
#define EMULATOR_ENVIRONMENT "BERTH_HANDOVER" /* path of the hand-over socket */
#define EMULATOR_FDS_MAX     4
/* Above what libvirtd leaves open in a QEMU: tap, console, agent, each with the number that it has in libvirtd. */
#define EMULATOR_FD_FIRST 1000
#define EMULATOR_FD_TEXT  "1000"

#endif
