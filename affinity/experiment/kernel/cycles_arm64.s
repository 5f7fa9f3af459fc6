//go:build linux

#include "textflag.h"

// func additions(n uint64)
TEXT ·additions(SB), NOSPLIT, $0-8
	MOVD n+0(FP), R0
	AND  $15, R0, R1
	LSR  $4, R0, R0
	MOVD $1, R2
	MOVD $0, R3
	CBZ  R0, rest
	PCALIGN $32

sixteen:
	ADD  R2, R3, R3
	ADD  R2, R3, R3
	ADD  R2, R3, R3
	ADD  R2, R3, R3
	ADD  R2, R3, R3
	ADD  R2, R3, R3
	ADD  R2, R3, R3
	ADD  R2, R3, R3
	ADD  R2, R3, R3
	ADD  R2, R3, R3
	ADD  R2, R3, R3
	ADD  R2, R3, R3
	ADD  R2, R3, R3
	ADD  R2, R3, R3
	ADD  R2, R3, R3
	ADD  R2, R3, R3
	SUB  $1, R0, R0
	CBNZ R0, sixteen

rest:
	CBZ R1, done

one:
	ADD  R2, R3, R3
	SUB  $1, R1, R1
	CBNZ R1, one

done:
	RET
