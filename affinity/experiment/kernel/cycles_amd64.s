//go:build linux

#include "textflag.h"

// Of registers: some CPUs fold additions of a constant into their renaming,
// where they take no time.

// func additions(n uint64)
TEXT ·additions(SB), NOSPLIT, $0-8
	MOVQ n+0(FP), CX
	MOVQ CX, DX
	MOVQ $1, BX
	XORL AX, AX
	SHRQ $4, CX
	JZ   rest
	PCALIGN $32

sixteen:
	ADDQ BX, AX
	ADDQ BX, AX
	ADDQ BX, AX
	ADDQ BX, AX
	ADDQ BX, AX
	ADDQ BX, AX
	ADDQ BX, AX
	ADDQ BX, AX
	ADDQ BX, AX
	ADDQ BX, AX
	ADDQ BX, AX
	ADDQ BX, AX
	ADDQ BX, AX
	ADDQ BX, AX
	ADDQ BX, AX
	ADDQ BX, AX
	DECQ CX
	JNZ  sixteen

rest:
	ANDQ $15, DX
	JZ   done

one:
	ADDQ BX, AX
	DECQ DX
	JNZ  one

done:
	RET
