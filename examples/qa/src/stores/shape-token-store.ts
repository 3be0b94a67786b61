// Shape tokens that are good still, by `${table}|${JSON.stringify(params)}`.
import { create } from 'zustand'

interface ShapeTokenState {
    tokenCache: Map<string, string>
    getToken: (key: string) => string | undefined
    setToken: (key: string, token: string) => void
    removeToken: (key: string) => void
}

export const useShapeTokenStore = create<ShapeTokenState>((set, get) => ({
    tokenCache: new Map(),
    getToken: (key) => get().tokenCache.get(key),
    setToken: (key, token) => set((state) => ({
        tokenCache: new Map(state.tokenCache).set(key, token),
    })),
    removeToken: (key) => set((state) => {
        const newCache = new Map(state.tokenCache)
        newCache.delete(key)
        return { tokenCache: newCache }
    }),
}))
