/** Why a server ended: what it said on leaving, else its last error. */
export function lastWords(life: string): string | undefined {
    return /^coulomb: (.+)$/m.exec(life)?.[1] ?? life.match(/^.*level=error .*$/gm)?.at(-1);
}
