// A list that keeps its end in view while it grows, unless the reader has scrolled away from it.
import { useEffect, useLayoutEffect, useRef } from 'react'

/** `rows` grow at their end or within the last of them; a new one brings the end back into view. */
export function useFollow(rows: unknown[]) {
    const ref = useRef<HTMLDivElement>(null)
    const follow = useRef(true)
    const toEnd = () => {
        if (follow.current) ref.current!.scrollTop = ref.current!.scrollHeight
    }
    useLayoutEffect(() => { follow.current = true }, [rows.length])
    useLayoutEffect(toEnd, [rows])
    useEffect(() => {
        const resized = new ResizeObserver(toEnd) // a phone's keyboard comes up
        resized.observe(ref.current!)
        return () => resized.disconnect()
    }, [])
    const onScroll = () => {
        const { scrollHeight, scrollTop, clientHeight } = ref.current!
        follow.current = scrollHeight - scrollTop - clientHeight < 48
    }
    return { ref, onScroll }
}
