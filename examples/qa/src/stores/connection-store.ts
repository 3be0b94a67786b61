// Whether the server answers: told by the requests of the stream, one of which is always under way.
import { create } from 'zustand'

export const useConnectionStore = create<{ reachable: boolean }>(() => ({ reachable: true }))

export const watchedFetch: typeof fetch = async (input, init) => {
    try {
        const response = await fetch(input, init)
        useConnectionStore.setState({ reachable: response.status < 500 })
        return response
    } catch (error) {
        if (!init?.signal?.aborted) useConnectionStore.setState({ reachable: false })
        throw error
    }
}
