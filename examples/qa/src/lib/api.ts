import { getAuthToken } from '../stores/auth-store'

declare global {
    interface Window { API_URL: string }
}

/** config.js says where the server is. */
export function getApiBaseUrl(): string {
    return window.API_URL
}

export async function sendQuestionApi(params: any): Promise<{ txid: number }> {
    const response = await fetch(`${getApiBaseUrl()}/questions/send`, {
        method: 'POST',
        headers: {
            'Content-Type': 'application/json',
            'Authorization': `Bearer ${getAuthToken()}`,
        },
        body: JSON.stringify(params),
    })
    const answer = await response.json().catch(() => ({}))
    if (!response.ok) throw new Error(answer.message ?? 'API request failed')
    return answer
}
