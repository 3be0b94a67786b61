import { electricCollectionOptions } from '@tanstack/electric-db-collection'
import { createCollection } from '@tanstack/react-db'
import { selectMessageSchema } from '../../db/schema'
import { getApiBaseUrl } from '../../lib/api'
import { watchedFetch } from '../../stores/connection-store'
import { createShapeConfig } from './shape-config'

const newMessagesCollection = (conversationId: string) => {
    const shapeConfig = createShapeConfig('messages', { conversationId })
    return createCollection(electricCollectionOptions({
        id: `messages-${conversationId}`,
        schema: selectMessageSchema,
        shapeOptions: {
            url: `${getApiBaseUrl()}/shape`,
            params: shapeConfig.params,
            headers: shapeConfig.headers,
            onError: shapeConfig.onError,
            fetchClient: watchedFetch,
            backoffOptions: { initialDelay: 200, maxDelay: 3000, multiplier: 1.5 },
            parser: { timestamptz: (text: string) => new Date(text) as any },
        },
        getKey: (item) => item.id,
    }))
}

type MessagesCollection = ReturnType<typeof newMessagesCollection>

// One collection for each conversation.
const collectionsCache = new Map<string, MessagesCollection>()

export function createMessagesCollection(conversationId: string): MessagesCollection {
    const cacheKey = `messages-${conversationId}`
    const cached = collectionsCache.get(cacheKey)
    if (cached) return cached
    const collection = newMessagesCollection(conversationId)
    collectionsCache.set(cacheKey, collection)
    return collection
}
